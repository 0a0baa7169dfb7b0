/* store/extent.h: which bytes of a dataset have been written. */
#ifndef TT_STORE_EXTENT_H
#define TT_STORE_EXTENT_H

#include "trimtab/store.h"

typedef struct tt_extent {
    int64_t begin;
    int64_t end;
} tt_extent;

/* Disjoint, not touching, ascending. All zero is the empty set. */
typedef struct tt_extent_set {
    tt_extent *items;
    size_t count;
    size_t capacity;
} tt_extent_set;

/* Adds [begin, end), which is not empty. */
tt_status tt_extent_add(tt_extent_set *set, int64_t begin, int64_t end);
/* The first byte below `bytes` that is not in the set; `bytes` when all are. */
int64_t tt_extent_first_gap(const tt_extent_set *set, int64_t bytes);
void tt_extent_clear(tt_extent_set *set);

#endif
