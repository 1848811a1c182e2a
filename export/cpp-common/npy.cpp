#include "npy.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <numeric>
#include <stdexcept>

namespace stale {
namespace {

// All numbers in .npy headers and .zip files are little-endian, whatever the machine is.
std::uint32_t little_endian(const std::string& bytes, std::size_t offset, std::size_t size) {
  if (offset + size > bytes.size()) throw std::runtime_error("cut short");
  std::uint32_t value = 0;
  for (std::size_t i = size; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[offset + i]);
  return value;
}

// What follows `'key': ` in the header, a literal of a Python dictionary.
std::string after_key(const std::string& header, const std::string& key) {
  const std::size_t found = header.find("'" + key + "':");
  if (found == std::string::npos) throw std::runtime_error("the header lacks " + key);
  return header.substr(header.find_first_not_of(' ', found + key.size() + 3));
}

float half_to_float(std::uint32_t bits) {
  const float sign = (bits & 0x8000U) != 0 ? -1.0F : 1.0F;
  const int exponent = static_cast<int>(bits >> 10 & 0x1FU);
  const auto fraction = static_cast<float>(bits & 0x3FFU);
  if (exponent == 0x1F) return fraction == 0.0F ? sign * INFINITY : NAN;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024.0F + fraction, exponent - 25);
}

void append_utf8(std::string& text, std::uint32_t character) {
  const auto tail = [&](int shift) { text += static_cast<char>(0x80U | (character >> shift & 0x3FU)); };
  if (character < 0x80) {
    text += static_cast<char>(character);
  } else if (character < 0x800) {
    text += static_cast<char>(0xC0U | character >> 6);
    tail(0);
  } else if (character < 0x10000) {
    text += static_cast<char>(0xE0U | character >> 12);
    tail(6), tail(0);
  } else {
    text += static_cast<char>(0xF0U | character >> 18);
    tail(12), tail(6), tail(0);
  }
}

std::size_t item_size(const std::string& type) {
  if (type.size() < 3 || type[0] != '<') throw std::runtime_error("number type '" + type + "' is not little-endian");
  return static_cast<std::size_t>(std::stoul(type.substr(2))) * (type[1] == 'U' ? 4 : 1);
}

NpyArray parsed(const std::string& content) {
  if (content.compare(0, 6, "\x93NUMPY") != 0) throw std::runtime_error("it does not begin as .npy files do");
  const std::size_t length_size = little_endian(content, 6, 1) == 1 ? 2 : 4;
  const std::size_t begin = 8 + length_size;
  const std::size_t length = little_endian(content, 8, length_size);
  if (begin + length > content.size()) throw std::runtime_error("cut short");
  const std::string header = content.substr(begin, length);

  NpyArray array;
  const std::string descr = after_key(header, "descr");
  array.type = descr.substr(1, descr.find('\'', 1) - 1);
  if (after_key(header, "fortran_order").compare(0, 5, "False") != 0) throw std::runtime_error("it is in Fortran order");
  std::string shape = after_key(header, "shape");
  shape = shape.substr(1, shape.find(')') - 1);
  for (std::size_t position = 0; (position = shape.find_first_of("0123456789", position)) != std::string::npos;) {
    std::size_t used = 0;
    array.shape.push_back(std::stoul(shape.substr(position), &used));
    if (array.shape.back() > content.size()) throw std::runtime_error("its size is not that of its shape");
    position += used;
  }
  array.data = content.substr(begin + length);
  const std::size_t items =
      std::accumulate(array.shape.begin(), array.shape.end(), std::size_t{1}, std::multiplies<std::size_t>());
  if (array.data.size() != items * item_size(array.type)) throw std::runtime_error("its size is not that of its shape");
  return array;
}

}  // namespace

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string content{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file) throw std::runtime_error(path + ": cannot be read");
  return content;
}

NpyArray parse_npy(const std::string& content, const std::string& where) {
  try {
    return parsed(content);
  } catch (const std::exception& problem) {
    throw std::runtime_error(where + ": not a readable .npy array: " + problem.what());
  }
}

std::map<std::string, NpyArray> parse_npz(const std::string& content, const std::string& where) {
  try {
    // The directory at the end of a .zip: 22 bytes of summary, found by its signature, point to its entries.
    const std::size_t summary = content.rfind("PK\x05\x06");
    if (summary == std::string::npos) throw std::runtime_error("it has no directory");
    const std::size_t n_entries = little_endian(content, summary + 10, 2);
    std::size_t entry = little_endian(content, summary + 16, 4);
    std::map<std::string, NpyArray> arrays;
    for (std::size_t i = 0; i < n_entries; ++i) {
      if (little_endian(content, entry, 4) != 0x02014B50U) throw std::runtime_error("its directory is damaged");
      if (little_endian(content, entry + 10, 2) != 0) throw std::runtime_error("it is compressed");
      const std::size_t size = little_endian(content, entry + 24, 4);
      const std::size_t name_size = little_endian(content, entry + 28, 2);
      const std::size_t local = little_endian(content, entry + 42, 4);
      const std::string name = content.substr(entry + 46, name_size);
      const std::size_t data =
          local + 30 + little_endian(content, local + 26, 2) + little_endian(content, local + 28, 2);
      if (data + size > content.size()) throw std::runtime_error("cut short");
      arrays[name.substr(0, name.rfind(".npy"))] = parsed(content.substr(data, size));
      entry += 46 + name_size + little_endian(content, entry + 30, 2) + little_endian(content, entry + 32, 2);
    }
    return arrays;
  } catch (const std::exception& problem) {
    throw std::runtime_error(where + ": not a readable .npz file: " + problem.what());
  }
}

Matrix matrix_of(const NpyArray& array, const std::string& where) {
  if (array.type != "<f4" && array.type != "<f2") {
    throw std::runtime_error(where + ": must be float32 or float16, little-endian; got '" + array.type + "'");
  }
  if (array.shape.size() != 2) {
    throw std::runtime_error(where + ": must have two axes; got " + std::to_string(array.shape.size()));
  }
  Matrix matrix{array.shape[0], array.shape[1], std::vector<float>(array.shape[0] * array.shape[1])};
  for (std::size_t i = 0; i < matrix.values.size(); ++i) {
    if (array.type == "<f2") {
      matrix.values[i] = half_to_float(little_endian(array.data, 2 * i, 2));
    } else {
      const std::uint32_t bits = little_endian(array.data, 4 * i, 4);
      std::memcpy(&matrix.values[i], &bits, sizeof bits);
    }
  }
  return matrix;
}

std::vector<std::string> strings_of(const NpyArray& array, const std::string& where) {
  if (array.type.compare(0, 2, "<U") != 0 || array.shape.size() != 1) {
    throw std::runtime_error(where + ": must be a one-dimensional array of strings; got '" + array.type + "'");
  }
  const std::size_t width = std::stoul(array.type.substr(2));
  std::vector<std::string> strings(array.shape[0]);
  for (std::size_t i = 0; i < strings.size(); ++i) {
    for (std::size_t j = 0; j < width; ++j) {
      const std::uint32_t character = little_endian(array.data, 4 * (i * width + j), 4);
      if (character == 0) break;  // the rest is padding
      append_utf8(strings[i], character);
    }
  }
  return strings;
}

}  // namespace stale
