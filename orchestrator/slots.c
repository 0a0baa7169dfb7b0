#include "slots.h"

#include <string.h>

void tt_slots_init(tt_slots *slots, int count)
{
    memset(slots, 0, sizeof *slots);
    slots->count = count;
}

int tt_slots_choose(const tt_slots *slots)
{
    if (slots->count == 1) {
        return slots->slot[0].pinned ? -1 : 0;
    }
    int chosen = -1;
    for (int i = 0; i < slots->count; i++) {
        const tt_slot *slot = &slots->slot[i];
        if (i == slots->published || slot->pinned) {
            continue;
        }
        if (!slot->valid) {
            return i;
        }
        if (chosen < 0 || slot->step < slots->slot[chosen].step) {
            chosen = i;
        }
    }
    return chosen;
}

/* The meaning stays where it is, for tt_slots_give_back. */
void tt_slots_take(tt_slots *slots, int index)
{
    if (slots->count > 1) {
        slots->slot[index].valid = false;
    }
}

void tt_slots_give_back(tt_slots *slots, int index, bool was_valid)
{
    if (slots->count > 1) {
        slots->slot[index].valid = was_valid;
    }
}

tt_slot *tt_slots_derive(tt_slots *slots, int to, int from)
{
    if (to != from) {
        bool pinned = slots->slot[to].pinned;
        slots->slot[to] = slots->slot[from];
        slots->slot[to].pinned = pinned;
        slots->slot[to].valid = false;
    }
    return &slots->slot[to];
}

void tt_slots_show(tt_slots *slots, int index)
{
    slots->slot[index].valid = true;
    slots->published = index;
}

void tt_slots_publish(tt_slots *slots, int index, const tt_slot *meaning)
{
    bool pinned = slots->slot[index].pinned;
    slots->slot[index] = *meaning;
    slots->slot[index].pinned = pinned;
    tt_slots_show(slots, index);
}

int tt_slots_older(const tt_slots *slots)
{
    int older = -1;
    for (int i = 0; i < slots->count; i++) {
        const tt_slot *slot = &slots->slot[i];
        if (slot->valid && slot->step < slots->slot[slots->published].step &&
            (older < 0 || slot->step > slots->slot[older].step)) {
            older = i;
        }
    }
    return older;
}

void tt_slots_revert(tt_slots *slots, int index)
{
    for (int i = 0; i < slots->count; i++) {
        if (slots->slot[i].step > slots->slot[index].step) {
            slots->slot[i].valid = false;
        }
    }
    slots->published = index;
}
