"""Between hosts, over TCP connections of the plugin's own."""
