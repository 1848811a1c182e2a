// What the core cannot do here, the host does: it throws, and it writes numbers as text. Memory is a stack that the host
// empties before each call, and it resets the stack pointer too, so nothing is left behind when it throws.
#include <cstddef>
#include <cstdint>
#include <new>

#include "checks.hpp"

extern "C" {

__attribute__((import_module("host"), import_name("fail"), noreturn)) void host_fail(const char* text, std::size_t size);
// Writes at most kNumberSize ASCII characters and returns how many.
constexpr std::size_t kNumberSize = 32;
__attribute__((import_module("host"), import_name("number_text"))) std::size_t host_number_text(double value, char* text);

extern unsigned char __heap_base;  // where the linker's data and stack end
static std::uintptr_t heap_end = 0;

// Memory of at least `size` bytes, until the next stale_release_all.
void* stale_allocate(std::size_t size) {
  constexpr std::uintptr_t kPage = 65536;
  if (heap_end == 0) heap_end = reinterpret_cast<std::uintptr_t>(&__heap_base);
  const std::uintptr_t begin = (heap_end + 15) & ~std::uintptr_t{15};
  const std::uintptr_t room = __builtin_wasm_memory_size(0) * kPage;
  if (size > UINTPTR_MAX - begin) host_fail("out of memory", 13);
  if (begin + size > room && __builtin_wasm_memory_grow(0, (begin + size - room + kPage - 1) / kPage) == SIZE_MAX) {
    host_fail("out of memory", 13);
  }
  heap_end = begin + size;
  return reinterpret_cast<void*>(begin);
}

void stale_release_all() { heap_end = 0; }

// Where the standard library would throw: a vector of more bytes than there are.
__attribute__((noreturn)) void* __cxa_allocate_exception(std::size_t) { host_fail("out of memory", 13); }
__attribute__((noreturn)) void __cxa_throw(void*, void*, void (*)(void*)) { __builtin_unreachable(); }

}  // extern "C"

void* operator new(std::size_t size) { return stale_allocate(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return stale_allocate(size); }
void operator delete(void*) noexcept {}

namespace stale {

void fail(std::initializer_list<Part> message) {
  char text[512];  // the core's longest message has half of that
  std::size_t size = 0;
  for (const Part& part : message) {
    if (part.words == nullptr) {
      if (size + kNumberSize <= sizeof text) size += host_number_text(part.number, text + size);
    } else {
      for (const char* c = part.words; *c != '\0' && size < sizeof text; ++c) text[size++] = *c;
    }
  }
  host_fail(text, size);
}

}  // namespace stale
