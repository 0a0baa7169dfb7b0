/* kernels/rivals/library.h: other people's matrix products, loaded where they are installed. */
#ifndef TT_RIVALS_LIBRARY_H
#define TT_RIVALS_LIBRARY_H

#include "internal.h"

/* What is used of OpenBLAS. The C ABI of CBLAS with 32-bit sizes is the same in every build. */
enum { TT_CBLAS_ROW_MAJOR = 101, TT_CBLAS_NO_TRANS = 111, TT_CBLAS_TRANS = 112 };

typedef struct tt_openblas {
    void (*sgemm)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                  const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc);
    void (*set_num_threads)(int threads);
    int (*get_parallel)(void); /* 0: one thread, 1: POSIX threads, 2: OpenMP */
    char *(*get_config)(void);
} tt_openblas;

/* What is used of oneDNN without its headers: stable from version 1 to 3. Matrices are row-major;
 * the status is 0 for success. */
typedef struct tt_onednn_version {
    int major, minor, patch; /* the first members of dnnl_version_t */
} tt_onednn_version;

typedef struct tt_onednn {
    int (*sgemm)(char trans_a, char trans_b, int64_t m, int64_t n, int64_t k, float alpha,
                 const float *a, int64_t lda, const float *b, int64_t ldb, float beta, float *c,
                 int64_t ldc);
    const tt_onednn_version *(*version)(void);
    void (*set_num_threads)(int threads); /* of the OpenMP runtime that it uses */
    void *handle;
} tt_onednn;

/* NULL where the library is not there (see tt_library_lacks). The first question loads it; it stays
 * loaded until the process ends. Safe from any thread. */
const tt_openblas *tt_openblas_load(void);
const tt_onednn *tt_onednn_load(void);

/* A function's address as what it is; false where the library lacks it. */
bool tt_library_find(void *handle, const char *name, void *function);

#endif
