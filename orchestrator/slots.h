/* Which slot means what. The bytes are the host's. */
#ifndef TRIMTAB_ORCHESTRATOR_SLOTS_H
#define TRIMTAB_ORCHESTRATOR_SLOTS_H

#include "gates.h"

/* The meaning of one slot's bytes. */
typedef struct tt_slot {
    bool valid;       /* holds a state that was published */
    bool pinned;      /* being read by the checkpoint writer: not to be written */
    int64_t step;     /* steps behind it: 0 is the initial state */
    int64_t position; /* data position of the next step */
    tt_gate_state gates;
} tt_slot;

typedef struct tt_slots {
    tt_slot slot[TT_MAX_SLOTS];
    int count;
    int published;
} tt_slots;

void tt_slots_init(tt_slots *slots, int count);
/* The slot to write next: never the published or a pinned one; an invalid one first, else the one
 * with the oldest step, so that older states live as long as they can. With one slot: that one.
 * -1: all others are pinned. The slot's old meaning is gone once it is taken (tt_slots_take). */
int tt_slots_choose(const tt_slots *slots);
void tt_slots_take(tt_slots *slots, int index);
/* The taken slot was not written after all: it means again what it meant. */
void tt_slots_give_back(tt_slots *slots, int index, bool was_valid);
/* The meaning of slot `from`, as a start, for what was written into `to` (which may be the same);
 * to be brought up to date in place and then shown by tt_slots_show. Nothing else is copied in a
 * step: the memory of the gates is some kilobytes. */
tt_slot *tt_slots_derive(tt_slots *slots, int to, int from);
void tt_slots_show(tt_slots *slots, int index);
/* Gives the written slot its meaning and publishes it: an index changes, nothing is copied. */
void tt_slots_publish(tt_slots *slots, int index, const tt_slot *meaning);
/* The youngest valid slot that is older than the published one, or -1. */
int tt_slots_older(const tt_slots *slots);
/* Goes back to `index`; states younger than it lose their validity. */
void tt_slots_revert(tt_slots *slots, int index);

#endif
