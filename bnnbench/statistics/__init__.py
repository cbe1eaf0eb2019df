"""Statistics of plain numbers and numpy arrays; nothing here knows of studies or databases.

All of it is numpy and the standard library: importing scipy's distributions takes longer than
showing a study of thousands of runs. The tests compare each figure with scipy's.
"""
