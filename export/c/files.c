#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "input.h"

void die(const char *format, ...) {
  char line[900];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  for (char *at = line; *at != '\0'; ++at) {
    if ((unsigned char)*at < 0x20 || *at == 0x7F) *at = '?';
  }
  fprintf(stderr, "error: %s\n", line);
  exit(1);
}

void *checked_alloc(size_t count, size_t size) {
  void *memory = calloc(count > 0 ? count : 1, size);
  if (memory == NULL) die("out of memory: %zu times %zu bytes", count, size);
  return memory;
}

/* Without O_NONBLOCK the opening of a pipe would wait for somebody who writes into it. */
static bytes read_regular(const char *path, int flags, const uint64_t *size, uint64_t most) {
  struct stat status;
  const int file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | flags);
  if (file < 0) die("%.500s: cannot be read: %s", path, strerror(errno));
  if (fstat(file, &status) != 0 || !S_ISREG(status.st_mode)) die("%.500s: must be a regular file", path);
  const uint64_t found = (uint64_t)status.st_size;
  if (size != NULL && found != *size) {
    die("%.500s: has %llu bytes; the manifest says %llu", path, (unsigned long long)found, (unsigned long long)*size);
  }
  if (found > most) {
    die("%.500s: has %llu bytes; at most %llu are read", path, (unsigned long long)found, (unsigned long long)most);
  }
  bytes content = {checked_alloc((size_t)found, 1), (size_t)found};
  for (size_t begin = 0; begin < content.size;) {
    const ssize_t got = read(file, content.data + begin, content.size - begin);
    if (got <= 0) die("%.500s: cannot be read: %s", path, got < 0 ? strerror(errno) : "it became shorter");
    begin += (size_t)got;
  }
  close(file);
  return content;
}

bytes read_file(const char *path, uint64_t most) { return read_regular(path, 0, NULL, most); }

/* Says whether a path of the manifest stays inside by its name alone, on every system. */
static int is_inside(const char *name) {
  if (*name == '\0' || strpbrk(name, ":\\") != NULL) return 0;
  for (const char *part = name;; ++part) {
    const size_t length = strcspn(part, "/");
    const int dots = (length == 1 && part[0] == '.') || (length == 2 && part[0] == '.' && part[1] == '.');
    if (length == 0 || dots) return 0;
    part += length;
    if (*part == '\0') return 1;
  }
}

bytes read_inside(const char *folder, const char *name, const uint64_t *size, uint64_t most) {
  if (!is_inside(name)) {
    die("%.300s: the manifest names a path outside the bundle: '%.80s'; only relative paths inside are allowed", folder, name);
  }
  char *joined = checked_alloc(strlen(folder) + strlen(name) + 2, 1);
  sprintf(joined, "%s/%s", folder, name);
  char *real_folder = realpath(folder, NULL), *real = realpath(joined, NULL);
  if (real_folder == NULL || real == NULL) die("%.300s/%.80s: cannot be read: %s", folder, name, strerror(errno));
  const size_t length = strcmp(real_folder, "/") == 0 ? 0 : strlen(real_folder);
  if (strncmp(real, real_folder, length) != 0 || real[length] != '/') {
    die("%.300s: %.80s is a link that leads outside the bundle, to %.300s", folder, name, real);
  }
  const bytes content = read_regular(real, O_NOFOLLOW, size, most);
  free(joined);
  free(real_folder);
  free(real);
  return content;
}
