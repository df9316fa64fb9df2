"""What recordings tell: each view of the page is one function here, in terms of plain values."""
