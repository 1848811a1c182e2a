// Reading NumPy's .npy and .npz files, as far as features and class banks need it.
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <vector>

namespace stale {

// Row-major (rows, columns).
struct Matrix {
  std::size_t rows = 0;
  std::size_t columns = 0;
  std::vector<float> values;
};

// An array as it lies in a file: `type` as NumPy spells it, such as "<f4".
struct NpyArray {
  std::string type;
  std::vector<std::size_t> shape;
  std::string data;
};

// Parses the bytes of an .npy file in C order; `where` names it in the std::runtime_error that anything else throws.
NpyArray parse_npy(const std::string& content, const std::string& where);

// The arrays of an .npz file that numpy.savez wrote (not compressed), by name.
std::map<std::string, NpyArray> parse_npz(const std::string& content, const std::string& where);

// float32 or float16 with two axes, as float32.
Matrix matrix_of(const NpyArray& array, const std::string& where);

// A one-dimensional array of strings ("<U..."), as UTF-8; control characters and numbers that are no character are refused.
std::vector<std::string> strings_of(const NpyArray& array, const std::string& where);

}  // namespace stale
