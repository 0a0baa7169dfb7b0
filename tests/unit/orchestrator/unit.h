/* What every test of the orchestrator includes: cmocka, and the headers that it wants first. */
#ifndef TT_TEST_ORCHESTRATOR_UNIT_H
#define TT_TEST_ORCHESTRATOR_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants those four first. */
#include <cmocka.h>

/* Fails too where either is a NaN. */
static inline void tt_assert_close(double got, double want, double slack, const char *file,
                                   int line)
{
    if (!(got - want <= slack && want - got <= slack)) {
        print_error("%.17g is not %.17g, give or take %g\n", got, want, slack);
        _fail(file, line);
    }
}
#define assert_close(got, want, slack) tt_assert_close(got, want, slack, __FILE__, __LINE__)

#endif
