#include "npy.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "files.hpp"

namespace stale {
namespace {

// All numbers in .npy headers and .zip files are little-endian, whatever the machine is.
std::uint32_t little_endian(const std::string& bytes, std::size_t offset, std::size_t size) {
  if (offset > bytes.size() || size > bytes.size() - offset) throw std::runtime_error("cut short");
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

// A whole number as headers write it: digits alone, few enough for any size.
std::size_t digits_of(const std::string& text) {
  if (text.empty() || text.size() > 18 || text.find_first_not_of("0123456789") != std::string::npos) {
    throw std::runtime_error("a size in its header is " + shown(text));
  }
  return std::stoull(text);
}

std::size_t item_size(const std::string& type) {
  if (type.size() < 3 || type[0] != '<') throw std::runtime_error("number type " + shown(type) + " is not little-endian");
  const std::size_t size = digits_of(type.substr(2));
  if (size == 0 || size > kMostFileBytes) throw std::runtime_error("number type " + shown(type) + " has no such size");
  return size * (type[1] == 'U' ? 4 : 1);
}

// The sizes of "(3, 16)", "(3,)" or "()".
std::vector<std::size_t> shape_of(const std::string& header) {
  const std::string tuple = after_key(header, "shape");
  const std::size_t end = tuple.find(')');
  if (tuple[0] != '(' || end == std::string::npos) throw std::runtime_error("its header has no shape");
  std::vector<std::size_t> shape;
  for (std::size_t begin = 1; begin < end;) {
    const std::size_t comma = std::min(tuple.find(',', begin), end);
    const std::size_t first = std::min(tuple.find_first_not_of(' ', begin), comma);
    if (first == comma && comma == end) break;  // behind the last comma
    shape.push_back(digits_of(tuple.substr(first, comma - first)));
    begin = comma + 1;
  }
  return shape;
}

// The bytes of an array; refused when they are more than `most`, so that no product overflows.
std::size_t size_of(const NpyArray& array, std::size_t most) {
  std::size_t bytes = item_size(array.type);
  for (const std::size_t size : array.shape) {
    if (size == 0) return 0;
  }
  for (const std::size_t size : array.shape) {
    if (size > most / bytes) throw std::runtime_error("its size is not that of its shape");
    bytes *= size;
  }
  return bytes;
}

NpyArray parsed(const std::string& content) {
  if (content.compare(0, 6, "\x93NUMPY") != 0) throw std::runtime_error("it does not begin as .npy files do");
  const std::size_t length_size = little_endian(content, 6, 1) == 1 ? 2 : 4;
  const std::size_t begin = 8 + length_size;
  const std::size_t length = little_endian(content, 8, length_size);
  if (length > content.size() - begin) throw std::runtime_error("cut short");
  const std::string header = content.substr(begin, length);

  NpyArray array;
  const std::string descr = after_key(header, "descr");
  array.type = descr.substr(1, descr.find('\'', 1) - 1);
  if (after_key(header, "fortran_order").compare(0, 5, "False") != 0) throw std::runtime_error("it is in Fortran order");
  array.shape = shape_of(header);
  array.data = content.substr(begin + length);
  if (array.data.size() != size_of(array, array.data.size())) throw std::runtime_error("its size is not that of its shape");
  return array;
}

}  // namespace

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
      const std::size_t data =
          local + 30 + little_endian(content, local + 26, 2) + little_endian(content, local + 28, 2);
      if (entry + 46 + name_size > content.size() || data + size > content.size()) throw std::runtime_error("cut short");
      const std::string name = content.substr(entry + 46, name_size);
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
    throw std::runtime_error(where + ": must be float32 or float16, little-endian; got " + shown(array.type));
  }
  if (array.shape.size() != 2) {
    throw std::runtime_error(where + ": must have two axes; got " + std::to_string(array.shape.size()));
  }
  if (array.data.size() / item_size(array.type) > kMostNumbers) {
    throw std::runtime_error(where + ": holds more than " + std::to_string(kMostNumbers) + " numbers");
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
    throw std::runtime_error(where + ": must be a one-dimensional array of strings; got " + shown(array.type));
  }
  const std::size_t width = item_size(array.type) / 4;
  std::vector<std::string> strings(array.shape[0]);
  for (std::size_t i = 0; i < strings.size(); ++i) {
    for (std::size_t j = 0; j < width; ++j) {
      const std::uint32_t character = little_endian(array.data, 4 * (i * width + j), 4);
      if (character == 0) break;  // the rest is padding
      const bool control = character < 0x20 || (character >= 0x7F && character < 0xA0);
      if (control || (character >= 0xD800 && character < 0xE000) || character > 0x10FFFF) {
        throw std::runtime_error(where + ": name " + std::to_string(i) +
                                 " holds a control character, or a number that is no character");
      }
      append_utf8(strings[i], character);
    }
  }
  return strings;
}

}  // namespace stale
