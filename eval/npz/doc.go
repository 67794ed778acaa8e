// Package npz reads and writes NumPy's .npz files: ZIP archives of .npy arrays, the
// form in which FID statistics (mu, sigma) and sampled images (uint8) are published.
//
// Its one idea: a file from elsewhere is data. Only plain little- and big-endian
// numbers are read; arrays of Python objects, which NumPy would unpickle, are
// refused, and nothing is allocated that the file does not hold.
//
// Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html,
// versions 1 to 3.
package npz
