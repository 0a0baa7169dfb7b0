/* Memory that runs out at a chosen allocation. Only the code under test is wrapped (link with
 * TT_STARVE_OPTIONS of starve.cmake), not the libraries below it. */
#ifndef TT_TEST_STARVE_H
#define TT_TEST_STARVE_H

#include <stdbool.h>

/* Of this thread's allocations from now on, number `at` (from 0) and, with `from`, all after it are
 * refused. -1: none. */
void starve_at(int at, bool from);
/* Whether one was refused since; ends the famine. */
bool starve_end(void);

#endif
