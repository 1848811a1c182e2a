// Checks that end the test program with status 1 and say where.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#define CHECK(condition)                                                                  \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);      \
      std::exit(1);                                                                       \
    }                                                                                     \
  } while (false)

#define CHECK_NEAR(got, wanted, tolerance)                                                              \
  do {                                                                                                  \
    const double check_got = (got);                                                                     \
    const double check_wanted = (wanted);                                                               \
    if (!(std::fabs(check_got - check_wanted) <= (tolerance))) {                                        \
      std::fprintf(stderr, "%s:%d: %s is %.17g, wanted %.17g\n", __FILE__, __LINE__, #got, check_got, check_wanted); \
      std::exit(1);                                                                                     \
    }                                                                                                   \
  } while (false)

// The statement must throw std::invalid_argument with `words` in its message.
#define CHECK_REFUSES(statement, words)                                                                        \
  do {                                                                                                         \
    bool check_refused = false;                                                                                \
    try {                                                                                                      \
      statement;                                                                                               \
    } catch (const std::invalid_argument& problem) {                                                           \
      check_refused = true;                                                                                    \
      if (std::string(problem.what()).find(words) == std::string::npos) {                                      \
        std::fprintf(stderr, "%s:%d: the message does not say \"%s\": %s\n", __FILE__, __LINE__, words, problem.what()); \
        std::exit(1);                                                                                          \
      }                                                                                                        \
    }                                                                                                          \
    if (!check_refused) {                                                                                      \
      std::fprintf(stderr, "%s:%d: not refused: %s\n", __FILE__, __LINE__, #statement);                        \
      std::exit(1);                                                                                            \
    }                                                                                                          \
  } while (false)
