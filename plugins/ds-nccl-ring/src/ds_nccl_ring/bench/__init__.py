"""How long an all-reduce takes by each algorithm, on the cluster that runs it or an emulated one.

`job` is what each rank does, `variants` the algorithms, `baselines` those that are not the
plugin's, `timing` how they are timed, `figures` what came out, and `table` how it is shown, as a
picture by the plugin's `curves`.
"""
