"""Statistics of plain numbers and numpy arrays; nothing here knows of studies or databases.

Of scipy only the special functions are used, where they are needed: importing its distributions and
tests takes a second, longer than showing a study of thousands of runs. The tests compare each
figure with theirs.
"""
