/* What every test of the orchestrator includes: cmocka, and the headers that it wants first. */
#ifndef TT_TEST_ORCHESTRATOR_UNIT_H
#define TT_TEST_ORCHESTRATOR_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants those four first. */
#include <cmocka.h>

#endif
