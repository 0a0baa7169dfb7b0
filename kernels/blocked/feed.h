/* kernels/blocked/feed.h: memory that is fetched while microkernels run on what was fetched before,
 * a few cache lines at a time. */
#ifndef TT_BLOCKED_FEED_H
#define TT_BLOCKED_FEED_H

#include "simd.h"

enum { TT_LINE = 64 }; /* bytes of a cache line */

/* `lines` runs of `length` bytes, `stride` bytes apart. */
typedef struct tt_feed {
    const char *at;
    int64_t stride, length, lines;
    int64_t within; /* bytes of the current run that are done */
    int64_t pace;   /* cache lines per microkernel */
} tt_feed;

/* The next `count` cache lines to L2. */
TT_INLINE void tt_feed_some(tt_feed *feed, int64_t count)
{
    for (int64_t n = 0; n < count && feed->lines > 0; n++) {
        __builtin_prefetch(feed->at + feed->within, 0, 2);
        feed->within += TT_LINE;
        if (feed->within >= feed->length) {
            feed->within = 0;
            feed->at += feed->stride;
            feed->lines--;
        }
    }
}

#endif
