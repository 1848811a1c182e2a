#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "input.h"

/* The bytes of the UTF-8 character at `text`, 0 if there is none. */
static size_t utf8_size(const unsigned char *text, size_t left) {
  static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
  const size_t size = *text < 0x80 ? 1 : *text >> 5 == 6 ? 2 : *text >> 4 == 14 ? 3 : *text >> 3 == 30 ? 4 : 0;
  if (size < 2) return size;
  if (size > left) return 0;
  unsigned code = *text & (0xFFU >> (size + 1));
  for (size_t i = 1; i < size; ++i) {
    if (text[i] >> 6 != 2) return 0;
    code = code << 6 | (text[i] & 0x3FU);
  }
  return code < least[size] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000) ? 0 : size;
}

/* What cJSON lets through: other encodings, strings that end early because of \u0000, and depth that exhausts the stack. */
static void check_text(bytes text, const char *where) {
  size_t depth = 0;
  int in_string = 0;
  for (size_t i = 0; i < text.size;) {
    const size_t size = utf8_size(text.data + i, text.size - i);
    const unsigned char c = text.data[i];
    if (size == 0 || c == '\0') die("%.500s: not UTF-8 text at byte %zu", where, i);
    if (in_string && c == '\\' && i + 1 < text.size) {
      if (text.size - i >= 6 && memcmp(text.data + i, "\\u0000", 6) == 0) die("%.500s: \\u0000 is not allowed in a text", where);
      i += 2;
      continue;
    }
    if (c == '"') in_string = !in_string;
    if (!in_string && (c == '{' || c == '[') && ++depth > MOST_DEPTH) {
      die("%.500s: objects and lists are more than %d deep", where, MOST_DEPTH);
    }
    if (!in_string && (c == '}' || c == ']') && depth > 0) --depth;
    i += size;
  }
}

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

/* Sorted names, so that many keys cost no more than reading them. */
static void check_values(const cJSON *value, const char *where) {
  const cJSON *item = NULL;
  if (cJSON_IsNumber(value) && !isfinite(value->valuedouble)) die("%.500s: a number is too large for a double", where);
  const size_t count = (size_t)cJSON_GetArraySize(value);
  const char **names = checked_alloc(count, sizeof *names);
  size_t n_names = 0;
  cJSON_ArrayForEach(item, value) {
    check_values(item, where);
    if (item->string != NULL) names[n_names++] = item->string;
  }
  qsort(names, n_names, sizeof *names, by_name);
  for (size_t i = 1; i < n_names; ++i) {
    if (strcmp(names[i - 1], names[i]) == 0) die("%.500s: the key '%.80s' stands twice in one object", where, names[i]);
  }
  free(names);
}

cJSON *parse_json(bytes text, const char *where) {
  check_text(text, where);
  const char *end = NULL;
  char *ended = checked_alloc(text.size + 1, 1);
  if (text.size > 0) memcpy(ended, text.data, text.size);
  cJSON *value = cJSON_ParseWithOpts(ended, &end, /*require_null_terminated=*/1);
  if (!cJSON_IsObject(value)) die("%.500s: not a JSON object", where);
  check_values(value, where);
  free(ended);
  return value;
}

const cJSON *member(const cJSON *object, const char *name) {
  const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, name);
  if (value == NULL) die("manifest.json: %s is missing", name);
  return value;
}

double number_of(const cJSON *object, const char *name) {
  if (!cJSON_IsNumber(member(object, name))) die("manifest.json: %s must be a number", name);
  return member(object, name)->valuedouble;
}

size_t integer_of(const cJSON *object, const char *name, size_t least, size_t most) {
  const double value = number_of(object, name);
  if (!(value >= (double)least && value <= (double)most) || value != floor(value)) {
    die("manifest.json: %s must be an integer from %zu to %zu; got %.17g", name, least, most, value);
  }
  return (size_t)value;
}

const char *string_of(const cJSON *object, const char *name) {
  if (!cJSON_IsString(member(object, name))) die("manifest.json: %s must be a string", name);
  return member(object, name)->valuestring;
}
