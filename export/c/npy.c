#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "input.h"

/* Numbers in .npy headers and .zip files are little-endian, whatever the machine is. */
static uint32_t little_endian(bytes content, size_t offset, size_t size, const char *where) {
  uint32_t value = 0;
  if (offset > content.size || size > content.size - offset) die("%.500s: cut short", where);
  while (size-- > 0) value = value << 8 | content.data[offset + size];
  return value;
}

/* The bytes of one item of a type: "<f4" has 4, "<U12" 48; 0 for what is not read here. */
static size_t item_size(const char *type) {
  char *rest = NULL;
  if (type[0] != '<' || (type[1] != 'f' && type[1] != 'U') || type[2] < '1' || type[2] > '9') return 0;
  const size_t size = strtoul(type + 2, &rest, 10);
  return *rest != '\0' || size > MOST_FILE_BYTES ? 0 : size * (type[1] == 'U' ? 4 : 1);
}

npy parse_npy(bytes content, const char *where) {
  npy array = {"", 0, {1, 1}, {NULL, 0}};
  char header[1024] = "";
  if (content.size < 10 || memcmp(content.data, "\x93NUMPY", 6) != 0) die("%.500s: not an .npy file", where);
  const size_t length_size = content.data[6] == 1 ? 2 : 4;
  const size_t length = little_endian(content, 8, length_size, where), begin = 8 + length_size;
  if (length > content.size - begin || length >= sizeof header) die("%.500s: cut short, or no plain array", where);
  memcpy(header, content.data + begin, length);

  const char *descr = strstr(header, "'descr': '"), *shape = strstr(header, "'shape': (");
  if (descr == NULL || shape == NULL || sscanf(descr, "'descr': '%15[^']'", array.type) != 1) {
    die("%.500s: must be a plain array; its header is %.80s", where, header);
  }
  if (strstr(header, "'fortran_order': False") == NULL) die("%.500s: must be in C order", where);
  array.data = (bytes){content.data + begin + length, content.size - begin - length};
  size_t total = item_size(array.type); /* bytes of all axes so far */
  int empty = 0;
  if (total == 0) die("%.500s: must be float32, float16 or text, little-endian; got '%s'", where, array.type);
  char *next = NULL;
  for (const char *at = shape + strlen("'shape': ("); *at != ')'; at = *next == ',' ? next + 1 : next) {
    while (*at == ' ') ++at;
    if (*at < '0' || *at > '9') break; /* after the comma of a single axis */
    const size_t size = strtoul(at, &next, 10);
    if (size == 0) {
      empty = 1;
    } else if (!empty) {
      if (size > array.data.size / total) die("%.500s: its size is not that of its shape", where);
      total *= size;
    }
    if (array.axes < 2) array.shape[array.axes] = size;
    ++array.axes;
  }
  if ((empty ? 0 : total) != array.data.size) die("%.500s: its size is not that of its shape", where);
  return array;
}

static float half_to_float(uint32_t bits) {
  const float sign = (bits & 0x8000U) != 0 ? -1.0F : 1.0F, fraction = (float)(bits & 0x3FFU);
  const int exponent = (int)(bits >> 10 & 0x1FU);
  if (exponent == 0x1F) return fraction == 0.0F ? sign * INFINITY : NAN;
  return sign * (exponent == 0 ? ldexpf(fraction, -24) : ldexpf(1024.0F + fraction, exponent - 25));
}

matrix matrix_of(npy array, const char *where) {
  const int half = strcmp(array.type, "<f2") == 0;
  if (!half && strcmp(array.type, "<f4") != 0) {
    die("%.500s: must be float32 or float16, little-endian; got '%s'", where, array.type);
  }
  if (array.axes != 2) die("%.500s: must have two axes; got %zu", where, array.axes);
  const size_t item = half ? 2 : 4, count = array.data.size / item;
  if (count > MOST_NUMBERS) die("%.500s: holds %zu numbers; at most %zu are read", where, count, MOST_NUMBERS);
  matrix values = {array.shape[0], array.shape[1], checked_alloc(count, sizeof(float))};
  for (size_t i = 0; i < count; ++i) {
    const uint32_t bits = little_endian(array.data, i * item, item, where);
    if (half) {
      values.values[i] = half_to_float(bits);
    } else {
      memcpy(&values.values[i], &bits, sizeof bits);
    }
  }
  return values;
}

npy npz_member(bytes content, const char *name, const char *where) {
  size_t end = content.size < 22 ? 0 : content.size - 22; /* its directory is found from the end */
  while (end > 0 && memcmp(content.data + end, "PK\x05\x06", 4) != 0) --end;
  if (end == 0) die("%.500s: not an .npz file", where);
  size_t entry = little_endian(content, end + 16, 4, where);
  for (uint32_t left = little_endian(content, end + 10, 2, where); left > 0; --left) {
    const size_t size = little_endian(content, entry + 24, 4, where), local = little_endian(content, entry + 42, 4, where);
    const size_t name_size = little_endian(content, entry + 28, 2, where);
    const size_t data = local + 30 + little_endian(content, local + 26, 2, where) + little_endian(content, local + 28, 2, where);
    if (entry + 46 + name_size > content.size || data + size > content.size) die("%.500s: cut short", where);
    if (name_size == strlen(name) && memcmp(content.data + entry + 46, name, name_size) == 0) {
      if (little_endian(content, entry + 10, 2, where) != 0) die("%.500s: %s is compressed", where, name);
      return parse_npy((bytes){content.data + data, size}, where);
    }
    entry += 46 + name_size + little_endian(content, entry + 30, 2, where) + little_endian(content, entry + 32, 2, where);
  }
  die("%.500s: holds no %s", where, name);
}

static char *utf8_of(npy array, size_t row, size_t width, const char *where) {
  char *text = checked_alloc(4 * width + 1, 1), *at = text;
  for (size_t i = 0; i < width; ++i) {
    const uint32_t c = little_endian(array.data, 4 * (row * width + i), 4, where);
    if (c == 0) break; /* the rest is padding */
    if (c < 0x20 || (c >= 0x7F && c < 0xA0) || (c >= 0xD800 && c < 0xE000) || c > 0x10FFFF) {
      die("%.500s: name %zu holds a control character, or a number that is no character", where, row);
    }
    if (c < 0x80) {
      *at++ = (char)c;
      continue;
    }
    const int tails = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    *at++ = (char)((0xFF00U >> (tails + 1) & 0xFFU) | c >> 6 * tails); /* 110..., 1110..., 11110... */
    for (int tail = tails - 1; tail >= 0; --tail) *at++ = (char)(0x80U | (c >> 6 * tail & 0x3FU));
  }
  return text;
}

char **strings_of(npy array, const char *where) {
  if (array.type[1] != 'U' || array.axes != 1) die("%.500s: must be a list of strings; got '%s'", where, array.type);
  const size_t count = array.shape[0], width = item_size(array.type) / 4;
  char **strings = checked_alloc(count, sizeof(char *));
  for (size_t row = 0; row < count; ++row) strings[row] = utf8_of(array, row, width, where);
  return strings;
}
