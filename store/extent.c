/* store/extent.c: sets of byte ranges. Writers mostly go forward, so a set is mostly one item. */
#include "extent.h"

#include <stdlib.h>
#include <string.h>

tt_status tt_extent_add(tt_extent_set *set, int64_t begin, int64_t end)
{
    /* [first, last) are the items that touch the new one and merge with it. */
    size_t first = 0;
    while (first < set->count && set->items[first].end < begin)
        first++;
    size_t last = first;
    while (last < set->count && set->items[last].begin <= end)
        last++;
    if (first < last) {
        tt_extent *merged = &set->items[first];
        if (set->items[last - 1].end > end)
            end = set->items[last - 1].end;
        merged->end = end;
        if (begin < merged->begin)
            merged->begin = begin;
        memmove(merged + 1, &set->items[last], (set->count - last) * sizeof *merged);
        set->count -= last - first - 1;
        return TT_OK;
    }
    if (set->count == set->capacity) {
        size_t capacity = set->capacity ? 2 * set->capacity : 4;
        tt_extent *items = realloc(set->items, capacity * sizeof *items);
        if (!items)
            return tt_fail(TT_ENOMEM, "no memory to note which bytes were written");
        set->items = items;
        set->capacity = capacity;
    }
    memmove(&set->items[first + 1], &set->items[first], (set->count - first) * sizeof *set->items);
    set->items[first] = (tt_extent){begin, end};
    set->count++;
    return TT_OK;
}

int64_t tt_extent_first_gap(const tt_extent_set *set, int64_t bytes)
{
    if (set->count == 0 || set->items[0].begin > 0)
        return 0;
    return set->items[0].end < bytes ? set->items[0].end : bytes;
}

void tt_extent_clear(tt_extent_set *set)
{
    free(set->items);
    *set = (tt_extent_set){0};
}
