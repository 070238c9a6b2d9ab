# basins
