/* trimtab/base.h: what every other header stands on.
 *
 *   1. export macros and element types
 *   2. tt_status and the error message
 *   3. memory: arenas
 *   4. text: a growing string
 *   5. log, clock
 *   6. random numbers (counter-based)
 *   7. digests
 *   8. threads
 *
 * Conventions of the whole library: functions return tt_status (TT_OK is 0) and leave a one-line
 * message for the calling thread; a returned pointer is borrowed, an out-parameter is owned by the
 * caller; a public struct that may grow starts with its own size. Nothing here prints or exits.
 */
#ifndef TRIMTAB_BASE_H
#define TRIMTAB_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- 1. export macros and element types --------------------------------------------------- */

#define TT_API __attribute__((visibility("default")))
#define TT_PRINTF(format_index, first_argument)                                                    \
    __attribute__((format(printf, format_index, first_argument)))

/* What protects a run, by name: always there, and free. Only a test program that is built with
 * TRIMTAB_WEAKEN can leave some out, to show that each is needed; it defines tt_weakened(). */
#ifdef TRIMTAB_WEAKEN
typedef enum tt_protection {
    TT_PROTECTION_FINITE,         /* NaN and infinity trip */
    TT_PROTECTION_GRADIENT_NORM,  /* its gate */
    TT_PROTECTION_LOSS,           /* gates on the loss, spikes and drift */
    TT_PROTECTION_RECONSTRUCTION, /* its gate */
    TT_PROTECTION_SEARCH,         /* for a culprit */
    TT_PROTECTION_KEEP,           /* the last good checkpoint, until the next one is there */
    TT_PROTECTION_RENAME,         /* checkpoints are written aside, then renamed */
    TT_PROTECTION_VERIFY,         /* digests are looked at */
    TT_PROTECTION_CLOCK,          /* no time is negative or absurd */
    TT_PROTECTION_BACKGROUND,     /* checkpoints are written while steps go on */
    TT_PROTECTION_COUNT
} tt_protection;
bool tt_weakened(tt_protection protection);
#define TT_PROTECTED(name) (!tt_weakened(TT_PROTECTION_##name))
#else
#define TT_PROTECTED(name) 1
#endif

/* Element types of tensors and datasets. */
typedef enum tt_dtype {
    TT_U8 = 1,
    TT_U16,
    TT_I32,
    TT_I64,
    TT_U64,
    TT_F32,
    TT_F64,
    TT_I8,
    TT_BF16,
} tt_dtype;

/* Bytes of one element; 0 for a value that is no tt_dtype. */
TT_API size_t tt_dtype_size(tt_dtype dtype);
/* "f32", "u8", ...; "?" for a value that is no tt_dtype. */
TT_API const char *tt_dtype_name(tt_dtype dtype);

/* ---- 2. status and error message ---------------------------------------------------------- */

typedef enum tt_status {
    TT_OK = 0,
    TT_EINVAL,       /* an argument breaks the function's contract                    exit 70 */
    TT_ENOMEM,       /* memory could not be had                                       exit 70 */
    TT_EIO,          /* a file operation failed                                       exit 74 */
    TT_ENOSPC,       /* the disk (or quota) is full                                   exit 74 */
    TT_ENOTFOUND,    /* a file, key or name does not exist                            exit 74 */
    TT_EBUSY,        /* in use by another process                                     exit 74 */
    TT_ECORRUPT,     /* data fail their own digest or format                          exit 65 */
    TT_EHOSTILE,     /* data are intact but ask for something dangerous               exit 65 */
    TT_EDATA,        /* input data cannot be used (no text, token out of range, ...)  exit 65 */
    TT_ECONFIG,      /* a configuration value is wrong, unknown or contradictory      exit 78 */
    TT_EUSAGE,       /* the command line is wrong                                     exit 2  */
    TT_EUNSUPPORTED, /* this build or machine cannot do it                            exit 78 */
    TT_EGATE,        /* a safety gate stopped the run                                 exit 1  */
    TT_EREQUEUE,     /* stopped on request, state saved, run it again                 exit 75 */
    TT_EINTERNAL,    /* an invariant of the library does not hold                     exit 70 */
} tt_status;

TT_API const char *tt_status_name(tt_status status);
/* The process exit code that stands for `status` (sysexits.h's numbers where it has one). */
TT_API int tt_status_exit_code(tt_status status);

/* Sets the calling thread's message (what, where, what to do; one line, cut at 1,023 bytes, line
 * breaks and control characters replaced) and returns `status`, so that a failure is one line:
 *     return tt_fail(TT_ECONFIG, "%s:%d: unknown key '%s'", file, line, key);            */
TT_API tt_status tt_fail(tt_status status, const char *format, ...) TT_PRINTF(2, 3);
/* Puts context in front of the message that is already there: "<context>: <message>". */
TT_API tt_status tt_fail_in(tt_status status, const char *format, ...) TT_PRINTF(2, 3);
/* tt_fail for a failed system call: appends strerror(error_number); ENOSPC and EDQUOT become
 * TT_ENOSPC, ENOENT becomes TT_ENOTFOUND, ENOMEM becomes TT_ENOMEM, all others TT_EIO. */
TT_API tt_status tt_fail_errno(int error_number, const char *format, ...) TT_PRINTF(2, 3);
/* The calling thread's message; "" if none. Valid until the thread's next failure. */
TT_API const char *tt_error_message(void);
TT_API void tt_error_clear(void);

/* ---- 3. memory ---------------------------------------------------------------------------- */

/* A fixed-capacity bump allocator over one mapping. Arenas of 2 MiB and more are advised to use
 * transparent huge pages. Memory is zero when first handed out. Not thread-safe. */
typedef struct tt_arena tt_arena;

/* Called for every mapping made (+bytes) and released (-bytes): tests count with it. */
typedef void (*tt_memory_hook)(void *user, int64_t bytes);

/* Creates an arena of `capacity` bytes (rounded up to whole pages). `hook` may be NULL. */
TT_API tt_status tt_arena_create(size_t capacity, tt_memory_hook hook, void *user, tt_arena **out);
TT_API void tt_arena_destroy(tt_arena *arena);
/* `bytes` at an address that is a multiple of `align` (a power of two; 0 means 64); NULL when the
 * arena is full. The memory is the arena's. */
TT_API void *tt_arena_take(tt_arena *arena, size_t bytes, size_t align);
TT_API size_t tt_arena_used(const tt_arena *arena);
TT_API size_t tt_arena_capacity(const tt_arena *arena);

/* ---- 4. text ------------------------------------------------------------------------------ */

/* A growing, always NUL-terminated string. After a failed allocation `failed` is set, further
 * additions do nothing, and the final check reports it once. */
typedef struct tt_text {
    char *data; /* "" (not owned) while empty */
    size_t length;
    size_t capacity;
    bool failed;
} tt_text;

TT_API void tt_text_init(tt_text *text);
TT_API void tt_text_clear(tt_text *text); /* frees; the text is empty and usable again */
TT_API void tt_text_add(tt_text *text, const char *string);
TT_API void tt_text_add_bytes(tt_text *text, const char *bytes, size_t length);
TT_API void tt_text_addf(tt_text *text, const char *format, ...) TT_PRINTF(2, 3);
/* TT_ENOMEM if any addition failed. */
TT_API tt_status tt_text_check(const tt_text *text);

/* The shortest decimal text that reads back as the same double ("0.1", "0.0003",
 * "1e+30"); "nan", "inf", "-inf". `out` has room for 32 bytes. Returns out. */
TT_API char *tt_format_double(double value, char out[32]);

/* Bytes of the valid UTF-8 character at `text`, of which `length` bytes may be read; 0 if it is not
 * one. `code` (may be NULL) receives the character. */
TT_API size_t tt_utf8_decode(const char *text, size_t length, uint32_t *code);

/* Of `count` candidates the one nearest to `word` by edit distance (transpositions count one), or
 * NULL where none is within a third of the word's length (at least 2). For "did you mean". */
TT_API const char *tt_nearest_word(const char *word, const char *const *candidates, size_t count);

/* ---- 5. log and clock --------------------------------------------------------------------- */

typedef enum tt_log_level { TT_LOG_INFO, TT_LOG_WARN, TT_LOG_ERROR } tt_log_level;

/* Where messages go: one line each, without a line break. A NULL `write` drops them. */
typedef struct tt_log_sink {
    void (*write)(void *user, tt_log_level level, const char *message);
    void *user;
} tt_log_sink;

TT_API void tt_log(const tt_log_sink *sink, tt_log_level level, const char *format, ...)
    TT_PRINTF(3, 4);

/* A monotonic clock that tests (and clock-jump drills) can replace. */
typedef struct tt_clock {
    uint64_t (*now_ns)(void *user);
    void *user;
} tt_clock;

TT_API tt_clock tt_clock_monotonic(void);
TT_API uint64_t tt_clock_now(const tt_clock *clock); /* nanoseconds */
/* Wall-clock time as "2026-01-31T12:34:56Z". Returns out. */
TT_API char *tt_format_utc_now(char out[24]);

/* ---- 6. random numbers -------------------------------------------------------------------- */

/* Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11), by
 * Random123: a pure function of (seed, stream, counter), the same on every backend. */
TT_API void tt_philox(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]);
/* Uniform in [0, 1) with 53 bits; lane 0 or 1 of block `counter`. */
TT_API double tt_random_uniform(uint64_t seed, uint64_t stream, uint64_t counter);
/* Fills `out` with n uniform numbers of 16 bits: elements first, first + 1, ... of a row that is a
 * pure function of (seed, stream), eight to a block of Philox. `first` is a multiple of 8. */
TT_API void tt_random_u16(uint64_t seed, uint64_t stream, uint64_t first, uint16_t *out, size_t n);
/* Fills `out` with n standard normals (Box-Muller on Philox), element i a pure function of
 * (seed, stream, i). */
TT_API void tt_random_normal_f32(uint64_t seed, uint64_t stream, float *out, size_t n);

/* A permutation of 0..n-1 as a pure function (cycle-walking Feistel network keyed by seed and
 * stream): where element `index` goes. Requires index < n. */
TT_API uint64_t tt_permute(uint64_t seed, uint64_t stream, uint64_t n, uint64_t index);

/* ---- 7. digests --------------------------------------------------------------------------- */

#define TT_SHA256_HEX 65 /* 64 hex digits and a NUL */

typedef struct tt_sha256 tt_sha256; /* OpenSSL EVP inside */

TT_API tt_status tt_sha256_create(tt_sha256 **out);
TT_API void tt_sha256_destroy(tt_sha256 *hash);
TT_API tt_status tt_sha256_update(tt_sha256 *hash, const void *data, size_t bytes);
/* Writes the digest and makes the object ready for a new message. */
TT_API tt_status tt_sha256_finish(tt_sha256 *hash, char out[TT_SHA256_HEX]);
TT_API tt_status tt_sha256_of(const void *data, size_t bytes, char out[TT_SHA256_HEX]);

/* xxHash64: for tables in memory, never for files. */
TT_API uint64_t tt_hash64(const void *data, size_t bytes, uint64_t seed);

/* ---- 8. threads --------------------------------------------------------------------------- */

/* Processors this process may use: affinity mask, capped by the cgroup's CPU quota (v1, v2),
 * at least 1. */
TT_API int tt_threads_available(void);

/* One background thread that runs one job at a time. */
typedef struct tt_worker tt_worker;
typedef tt_status (*tt_job_fn)(void *user);

TT_API tt_status tt_worker_create(tt_worker **out);
/* Waits for the running job, then ends the thread. */
TT_API void tt_worker_destroy(tt_worker *worker);
/* Starts `job`; TT_EBUSY while another one runs or its result has not been collected. */
TT_API tt_status tt_worker_start(tt_worker *worker, tt_job_fn job, void *user);
/* True while a job runs, or while a finished one's result waits to be collected. */
TT_API bool tt_worker_pending(tt_worker *worker);
/* True when a finished job's result waits: tt_worker_wait would not block. */
TT_API bool tt_worker_finished(tt_worker *worker);
/* Waits for the running job and returns its status; its message becomes the caller's. TT_OK when
 * there is none. */
TT_API tt_status tt_worker_wait(tt_worker *worker);

#ifdef __cplusplus
}
#endif
#endif
