/* What the store's tests share: a scratch directory, sample containers, resealing. */
#ifndef TT_TEST_STORE_SCRATCH_H
#define TT_TEST_STORE_SCRATCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants those four first. */
#include <cmocka.h>

#include "trimtab/store.h"

/* 1 under the address or thread sanitizer. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* cmocka's setup and teardown of a test: *state is the path of a fresh directory. */
int scratch_make(void **state);
int scratch_remove(void **state);
/* Empties a directory (files and links only). */
void scratch_empty(const char *directory);
/* "<directory>/<name>" in one of a few rotating buffers. */
const char *scratch_path(const char *directory, const char *name);
/* Files of the directory whose name contains `part`. */
int scratch_count(const char *directory, const char *part);

/* Fails the test, with the library's message, unless `status` is TT_OK. */
#define assert_ok(status) scratch_assert_ok((status), #status, __FILE__, __LINE__)
void scratch_assert_ok(tt_status status, const char *what, const char *file, int line);
/* Fails the test unless the last message contains `part`. */
#define assert_message(part) scratch_assert_message((part), __FILE__, __LINE__)
void scratch_assert_message(const char *part, const char *file, int line);

/* Saves a small container: /params/w f32[3,5] of `step` + index, /state/cursor i64 scalar = step,
 * /config text. */
tt_status sample_save(const char *directory, const char *name, int64_t step,
                      const tt_file_ops *ops);
/* Opens it and checks all of it. */
void sample_check(const char *path, int64_t step);

void *read_file(const char *path, size_t *bytes);
void write_file(const char *path, const void *data, size_t bytes);
/* Gives the file a correct header for what its payload is now. */
void reseal(const char *path);

#endif
