/* The float64 product that the tuner checks candidates against. */
#include "simd.h"
#include "tune.h"

#define JOIN_(name, level) name##__v##level
#define JOIN(name, level)  JOIN_(name, level)
#define PRODUCT(name)      JOIN(name, TT_ISA_LEVEL)

/* Four rows of c at a time, so that a row of b is read once for them. */
static void four_rows(int64_t columns, int64_t k, const float *a, const float *b,
                      double *restrict c)
{
    for (int64_t p = 0; p < k; p++) {
        const float *row = b + p * columns;
        double a0 = (double)a[p], a1 = (double)a[k + p];
        double a2 = (double)a[2 * k + p], a3 = (double)a[3 * k + p];
        for (int64_t j = 0; j < columns; j++) {
            double value = (double)row[j];
            c[j] += a0 * value;
            c[columns + j] += a1 * value;
            c[2 * columns + j] += a2 * value;
            c[3 * columns + j] += a3 * value;
        }
    }
}

static void one_row(int64_t columns, int64_t k, const float *a, const float *b, double *restrict c)
{
    for (int64_t p = 0; p < k; p++)
        for (int64_t j = 0; j < columns; j++)
            c[j] += (double)a[p] * (double)b[p * columns + j];
}

void PRODUCT(tt_product_f64)(int threads, int64_t rows, int64_t columns, int64_t k, const float *a,
                             const float *b, double *c)
{
    int64_t fours = rows / 4;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4) if (threads > 1)
    for (int64_t i = 0; i < fours; i++)
        four_rows(columns, k, a + 4 * i * k, b, c + 4 * i * columns);
    for (int64_t i = 4 * fours; i < rows; i++)
        one_row(columns, k, a + i * k, b, c + i * columns);
}
