/* resolve/explain.h: what the resolver says about its moves and about what it cannot do. */
#ifndef TRIMTAB_RESOLVE_EXPLAIN_H
#define TRIMTAB_RESOLVE_EXPLAIN_H

#include "resolve/search.h"

/* One line per moved key, in precedence order. */
void tt_resolve_write_trace(const tt_search *search, const tt_resolution *resolution,
                            tt_text *trace);

/* TT_ECONFIG with the smallest set of rules found that cannot hold together, and every key that
 * they bind. `active` are rules under which no assignment exists. */
tt_status tt_resolve_fail(tt_search *search, uint64_t active);

#endif
