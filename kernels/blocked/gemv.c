/* Products of few rows (decoding): bound by reading the weights, which pass by once and are packed
 * nowhere. A thread reads several streams at once, far apart: one does not keep memory busy, and
 * many in one page slow each other down. Vectors run along columns of C, the chain of each along k,
 * so that the bits are those of the blocked product. */
#include <omp.h>

#include "product.h"
#include "vbf16.h"

#if !TT_PANELS_BF16

enum {
    ROWS = 4,
    LINE = 64,         /* bytes */
    LINES = 8,         /* streams of row-major weights */
    LINES_AHEAD = 256, /* bytes that each is prefetched ahead */
    PANELS = 4,        /* streams of packed weights, times rows */
    PANELS_AHEAD = 512,
    MOST_K = TT_SCRATCH_BYTES / (ROWS * sizeof(float)),
};

/* A column of each stream, whatever the level's vectors are. */
typedef float tt_eight __attribute__((vector_size(32)));
typedef uint32_t tt_eight_bits __attribute__((vector_size(32)));
typedef float tt_quad __attribute__((vector_size(16)));
typedef float tt_quad_unaligned __attribute__((vector_size(16), aligned(4), may_alias));

/* What tt_vround_bf16 does. */
TT_INLINE tt_eight round_eight(tt_eight x)
{
    tt_eight_bits bits = (tt_eight_bits)x, near = bits + 0x7fffu + ((bits >> 16) & 1u);
    tt_eight_bits nan = (tt_eight_bits)(x != x);
    return (tt_eight)(((nan & (bits | 0x400000u)) | (~nan & near)) & 0xffff0000u);
}

/* The elements of a line: a constant wherever it is used. */
typedef enum tt_line { LINE_F32, LINE_ROUNDED, LINE_BF16 } tt_line;

static tt_line line_of(tt_operand b)
{
    return b.bf16 ? LINE_BF16 : b.round ? LINE_ROUNDED : LINE_F32;
}

TT_INLINE int64_t element_bytes(const tt_line kind)
{
    return kind == LINE_BF16 ? 2 : 4;
}

/* Four bf16 from each of two places. */
TT_INLINE tt_eight widen_quads(const char *low, const char *high)
{
    uint64_t halves[2];
    memcpy(&halves[0], low, sizeof halves[0]);
    memcpy(&halves[1], high, sizeof halves[1]);
#if TT_VECTOR_BITS >= 256
    __m128i v = _mm_set_epi64x((long long)halves[1], (long long)halves[0]);
    return (tt_eight)_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16);
#else
    tt_eight_bits v;
    for (int i = 0; i < 8; i++)
        v[i] = (uint32_t)(halves[i / 4] >> (i % 4 * 16)) << 16;
    return (tt_eight)v;
#endif
}

/* Four elements of a line, and of the fourth after it. */
TT_INLINE tt_eight load_quads(const tt_line kind, const char *const *line, int64_t p)
{
    const char *first = line[0] + p * element_bytes(kind);
    const char *second = line[4] + p * element_bytes(kind);
    if (kind == LINE_BF16)
        return widen_quads(first, second);
    tt_quad low = *(const tt_quad_unaligned *)(const void *)first;
    tt_quad high = *(const tt_quad_unaligned *)(const void *)second;
    tt_eight v = __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
    return kind == LINE_ROUNDED ? round_eight(v) : v;
}

/* Element p of every line. */
TT_INLINE tt_eight load_column(const tt_line kind, const char *const *lines, int64_t p)
{
    tt_eight v = {0};
    for (int i = 0; i < LINES; i++)
        v[i] = kind == LINE_BF16 ? tt_bf16_to_f32(((const uint16_t *)(const void *)lines[i])[p])
                                 : ((const float *)(const void *)lines[i])[p];
    return kind == LINE_ROUNDED ? round_eight(v) : v;
}

/* Elements i and j of both quads of a, then those of b. */
#define TT_PICK(a, b, i, j)                                                                        \
    __builtin_shufflevector(a, b, i, j, (i) + 8, (j) + 8, (i) + 4, (j) + 4, (i) + 12, (j) + 12)

/* Elements [p, p + 4) of the lines, each as a vector along the lines: transposed in registers. */
TT_INLINE void load_columns(const tt_line kind, tt_eight v[4], const char *const *lines, int64_t p)
{
    tt_eight a = load_quads(kind, lines, p), b = load_quads(kind, lines + 1, p);
    tt_eight c = load_quads(kind, lines + 2, p), d = load_quads(kind, lines + 3, p);
    tt_eight ab = TT_PICK(a, b, 0, 1), cd = TT_PICK(c, d, 0, 1);
    v[0] = TT_PICK(ab, cd, 0, 2);
    v[1] = TT_PICK(ab, cd, 1, 3);
    ab = TT_PICK(a, b, 2, 3);
    cd = TT_PICK(c, d, 2, 3);
    v[2] = TT_PICK(ab, cd, 0, 2);
    v[3] = TT_PICK(ab, cd, 1, 3);
}

/* sums[r][i] += the product of row r and line i. */
TT_INLINE void sum_lines(const int rows, const tt_line kind, float *sums, const float *x, int64_t k,
                         const char *const lines[LINES])
{
    tt_eight v[4], s[ROWS];
    int64_t p = 0;
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        memcpy(&s[r], sums + r * LINES, sizeof s[r]);
    for (; p + 4 <= k; p += 4) {
        for (int i = 0; i < 2; i++) /* every line in turn */
            __builtin_prefetch(lines[p / 2 % LINES + i] + p * element_bytes(kind) + LINES_AHEAD, 0,
                               3);
        load_columns(kind, v, lines, p);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            const float *at = x + r * k + p;
            s[r] += at[0] * v[0];
            s[r] += at[1] * v[1];
            s[r] += at[2] * v[2];
            s[r] += at[3] * v[3];
        }
    }
    for (; p < k; p++) {
        tt_eight rest = load_column(kind, lines, p);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            s[r] += x[r * k + p] * rest;
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        memcpy(sums + r * LINES, &s[r], sizeof s[r]);
}

/* Sums of columns from j on start from the bias, if there is one, else from the zero that they are.
 */
static void start_sums(const tt_product *product, float *sums, int64_t j, int64_t columns)
{
    if (product->bias != NULL)
        memcpy(sums, product->bias + j, (size_t)columns * sizeof *sums);
}

/* `count` columns of each of LINES streams that begin `apart` columns from each other, the first
 * at column j. */
TT_INLINE void run_lines(const int rows, const tt_product *product, const float *x, int64_t j,
                         int64_t apart, int64_t count)
{
    enum { WIDTH = LINES * TT_NR };
    float sums[ROWS * WIDTH] = {0};
    int64_t k = product->k, last = product->columns - 1, together = apart == count ? LINES : 1;
    int64_t width = together * count;
    for (int64_t i = 0; i < LINES; i += together)
        for (int r = 0; r < rows; r++)
            start_sums(product, sums + r * WIDTH + i * count, j + i * apart,
                       tt_min64(width, last + 1 - j - i * apart));
    for (int64_t s = 0; s < count; s++) {
        const char *lines[LINES];
        float here[ROWS * LINES];
        for (int64_t i = 0; i < LINES; i++) { /* beyond the last column the last again */
            lines[i] = tt_operand_at(product->b, 0, tt_min64(j + i * apart + s, last)).data;
            for (int r = 0; r < rows; r++)
                here[r * LINES + i] = sums[r * WIDTH + i * count + s];
        }
        switch (line_of(product->b)) {
        case LINE_F32:
            sum_lines(rows, LINE_F32, here, x, k, lines);
            break;
        case LINE_ROUNDED:
            sum_lines(rows, LINE_ROUNDED, here, x, k, lines);
            break;
        case LINE_BF16:
            sum_lines(rows, LINE_BF16, here, x, k, lines);
            break;
        }
        for (int64_t i = 0; i < LINES; i++)
            for (int r = 0; r < rows; r++)
                sums[r * WIDTH + i * count + s] = here[r * LINES + i];
    }
    for (int64_t i = 0; i < LINES; i += together)
        TT_BLOCKED(tt_product_finish)
    (product, 0, rows, j + i * apart, tt_min64(width, last + 1 - j - i * apart), sums + i * count,
     WIDTH);
}

/* Sums of `rows` rows by two vectors of columns of each stream, at most 8 in all. Named, as in
 * micro.c. */
#define TT_FOR_SUMS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define TT_SUM_BEGIN(i)                                                                            \
    tt_vf sum##i = {0};                                                                            \
    if ((i) < rows * vectors)                                                                      \
        sum##i = tt_vload(sums + (i)*TT_LANES);
#define TT_SUM_STEP(i)                                                                             \
    if ((i) < rows * vectors)                                                                      \
        sum##i += x[(i) / vectors * k + p] *                                                       \
                  load_panel(bf16, panel + (i) % vectors / 2 * apart, (i) % 2 * TT_LANES);
#define TT_SUM_END(i)                                                                              \
    if ((i) < rows * vectors)                                                                      \
        tt_vstore(sums + (i)*TT_LANES, sum##i);

TT_INLINE tt_vf load_panel(const bool bf16, const char *panel, int64_t i)
{
    return bf16 ? tt_vload_bf16((const uint16_t *)(const void *)panel + i)
                : tt_vload((const float *)(const void *)panel + i);
}

/* Panels packed ahead, `apart` bytes from each other: one of each stream. */
TT_INLINE void sum_panels(const int rows, const int streams, const bool bf16, float *sums,
                          const float *x, int64_t k, const char *panel, int64_t apart)
{
    const int vectors = 2 * streams;
    const int64_t row = TT_NR * (bf16 ? 2 : 4), rows_of_line = row < LINE ? LINE / row : 1;
    TT_FOR_SUMS(TT_SUM_BEGIN)
    for (int64_t p = 0; p < k; p++, panel += row) {
        if (p % rows_of_line == 0)
#pragma GCC unroll 4
            for (int i = 0; i < streams; i++)
                for (int64_t at = 0; at < row; at += LINE)
                    __builtin_prefetch(panel + i * apart + at + PANELS_AHEAD, 0, 3);
        TT_FOR_SUMS(TT_SUM_STEP)
    }
    TT_FOR_SUMS(TT_SUM_END)
}

/* A panel of each stream; they are `apart` columns from each other, the first at column j. */
TT_INLINE void run_panels(const int rows, const int streams, const tt_product *product,
                          const float *x, int64_t j, int64_t apart)
{
    const int64_t unit = product->ahead.bf16 ? 2 : 4, width = streams * TT_NR, k = product->k;
    const char *panel = (const char *)product->ahead.panels + j * k * unit;
    float sums[2 * PANELS * TT_LANES] = {0};
    for (int64_t i = 0; i < streams; i++)
        for (int64_t r = 0; r < rows; r++)
            start_sums(product, sums + r * width + i * TT_NR, j + i * apart,
                       tt_min64(TT_NR, product->columns - j - i * apart));
    if (product->ahead.bf16)
        sum_panels(rows, streams, true, sums, x, k, panel, apart * k * unit);
    else
        sum_panels(rows, streams, false, sums, x, k, panel, apart * k * unit);
    for (int64_t i = 0; i < streams; i++)
        TT_BLOCKED(tt_product_finish)
    (product, 0, rows, j + i * apart, tt_min64(TT_NR, product->columns - j - i * apart),
     sums + i * TT_NR, width);
}

/* Columns [begin, end): the streams first, then what they leave. */
TT_INLINE void run_range(const int rows, const tt_product *product, const float *x, int64_t begin,
                         int64_t end)
{
    const bool ahead = product->ahead.panels != NULL;
    const int panels = rows < PANELS ? PANELS / rows : 1, streams = ahead ? panels : LINES;
    int64_t apart = (end - begin) / TT_NR / streams * TT_NR, j = begin;
    for (; j < begin + apart; j += TT_NR)
        if (ahead)
            run_panels(rows, panels, product, x, j, apart);
        else
            run_lines(rows, product, x, j, apart, TT_NR);
    for (j = begin + streams * apart; j < end; j += TT_NR)
        if (ahead)
            run_panels(rows, 1, product, x, j, TT_NR);
        else
            run_lines(rows, product, x, j, TT_NR / LINES, TT_NR / LINES);
}

#define TT_CASE(count)                                                                             \
    case count:                                                                                    \
        run_range(count, product, x, begin, end);                                                  \
        break;

static void run_rows(const tt_product *product, const float *x, int64_t begin, int64_t end)
{
    switch (product->rows) {
        TT_CASE(1)
        TT_CASE(2)
        TT_CASE(3)
        TT_CASE(4)
    default:
        break;
    }
}

/* The rows of A as floats, one after another. */
static const float *floats(const tt_product *product, void *scratch)
{
    if (!product->a.bf16)
        return product->a.data;
    const uint16_t *from = product->a.data;
    float *to = scratch;
    for (int64_t i = 0; i < product->rows * product->k; i++)
        to[i] = tt_bf16_to_f32(from[i]);
    return to;
}

bool TT_BLOCKED(tt_gemv_suits)(const tt_product *product)
{
    bool rows = product->rows <= ROWS && product->a.column == 1 && product->k <= MOST_K;
    bool lines = product->b.row == 1 && product->b.column == product->k;
    return rows && !product->from_c && (product->ahead.panels != NULL || lines);
}

void TT_BLOCKED(tt_gemv_run)(const tt_exec *exec, const tt_product *product, int threads)
{
#pragma omp parallel num_threads(threads) if (threads > 1)
    {
        int self = omp_get_thread_num();
        int64_t begin, end;
        tt_part(product->columns, TT_NR, omp_get_num_threads(), self, &begin, &end);
        if (begin < end)
            run_rows(product, floats(product, exec->scratch + (size_t)self * exec->scratch_stride),
                     begin, end);
    }
}

#endif
