/* Slots against a model that keeps the bytes. */
#include "unit.h"

#include "slots.h"

#include <string.h>

/* What the bytes of a slot really are. */
typedef struct model {
    int64_t bytes[TT_MAX_SLOTS]; /* the step of the state; -1: torn */
    bool pinned[TT_MAX_SLOTS];
    int published;
} model;

static uint32_t draw(uint64_t seed, uint64_t *counter)
{
    uint32_t block[4];
    tt_philox(seed, 78, (*counter)++, block);
    return block[0];
}

static void check(const tt_slots *slots, const model *m)
{
    assert_int_equal(slots->published, m->published);
    int64_t current = m->bytes[m->published];
    assert_int_equal(slots->slot[m->published].step, current);
    assert_true(slots->slot[m->published].valid);
    int older = -1;
    for (int i = 0; i < slots->count; i++) {
        const tt_slot *slot = &slots->slot[i];
        assert_int_equal(slot->pinned, m->pinned[i]);
        if (slot->valid) {
            assert_int_equal(slot->step, m->bytes[i]); /* never a torn or a foreign state */
            assert_int_equal(slot->position, 10 * m->bytes[i]);
            assert_int_equal(slot->gates.accepted, m->bytes[i]);
        }
        if (m->bytes[i] >= 0 && m->bytes[i] < current &&
            (older < 0 || m->bytes[i] > m->bytes[older])) {
            older = i;
        }
    }
    /* Every intact older state can be gone back to, youngest first. */
    assert_int_equal(tt_slots_older(slots), older);
}

/* The slot to write, checked against what may be written and what is to be kept. */
static int choose(const tt_slots *slots, const model *m)
{
    int chosen = tt_slots_choose(slots);
    if (slots->count == 1) {
        assert_int_equal(chosen, m->pinned[0] ? -1 : 0);
        return chosen;
    }
    int writable = 0;
    int torn = 0;
    int64_t oldest = INT64_MAX;
    for (int i = 0; i < slots->count; i++) {
        if (i != m->published && !m->pinned[i]) {
            writable++;
            torn += m->bytes[i] < 0;
            oldest = m->bytes[i] < oldest ? m->bytes[i] : oldest;
        }
    }
    assert_int_equal(chosen < 0, writable == 0);
    if (chosen >= 0) {
        assert_true(chosen < slots->count);
        assert_int_not_equal(chosen, m->published);
        assert_false(m->pinned[chosen]);
        assert_true(torn ? m->bytes[chosen] < 0 : m->bytes[chosen] == oldest);
    }
    return chosen;
}

static void walk(uint64_t seed, int count)
{
    tt_slots slots;
    model m = {.published = 0};
    uint64_t counter = 0;
    tt_slot meaning = {.step = 0};
    tt_slots_init(&slots, count);
    tt_slots_publish(&slots, 0, &meaning);
    for (int i = 0; i < count; i++) {
        m.bytes[i] = i ? -1 : 0;
    }
    for (int i = 0; i < 400; i++) {
        uint32_t what = draw(seed, &counter) % 10;
        if (what < 6) { /* a step; some trip before, some after they have written */
            int chosen = choose(&slots, &m);
            if (chosen < 0) {
                continue;
            }
            meaning = slots.slot[m.published];
            const bool was_valid = slots.slot[chosen].valid;
            const int64_t bytes = m.bytes[chosen];
            tt_slots_take(&slots, chosen);
            if (count > 1) {
                m.bytes[chosen] = -1;
                assert_false(slots.slot[chosen].valid);
            }
            uint32_t fate = draw(seed, &counter) % 10;
            if (fate == 0) { /* not written after all */
                tt_slots_give_back(&slots, chosen, was_valid);
                m.bytes[chosen] = bytes;
            } else if (fate > 5) { /* as a step does it */
                tt_slot *next = tt_slots_derive(&slots, chosen, m.published);
                next->step++;
                next->position = 10 * next->step;
                next->gates.accepted = next->step;
                m.bytes[chosen] = next->step;
                tt_slots_show(&slots, chosen);
                m.published = chosen;
            } else if (fate > 2) { /* as a checkpoint is loaded */
                meaning.step++;
                meaning.position = 10 * meaning.step;
                meaning.gates.accepted = meaning.step;
                meaning.pinned = draw(seed, &counter) % 2; /* must not leak into the slot */
                tt_slots_publish(&slots, chosen, &meaning);
                m.bytes[chosen] = meaning.step;
                m.published = chosen;
            }
        } else if (what == 6) { /* a checkpoint begins, ... */
            slots.slot[m.published].pinned = true;
            m.pinned[m.published] = true;
        } else if (what == 7) { /* ... and ends */
            int which = (int)(draw(seed, &counter) % (uint32_t)count);
            slots.slot[which].pinned = false;
            m.pinned[which] = false;
        } else if (what == 8) {
            int older = tt_slots_older(&slots);
            if (older >= 0) {
                tt_slots_revert(&slots, older);
                m.published = older;
                for (int k = 0; k < count; k++) {
                    m.bytes[k] = m.bytes[k] > m.bytes[older] ? -1 : m.bytes[k];
                }
            }
        }
        check(&slots, &m);
    }
}

static void model_walks(void **state)
{
    (void)state;
    for (int count = 1; count <= TT_MAX_SLOTS; count++) {
        for (uint64_t seed = 0; seed < 150; seed++) {
            walk(seed * 8 + (uint64_t)count, count);
        }
    }
}

static void keeps_as_many_as_there_is_room_for(void **state)
{
    (void)state;
    for (int count = 2; count <= TT_MAX_SLOTS; count++) {
        tt_slots slots;
        tt_slot meaning = {.step = 0};
        tt_slots_init(&slots, count);
        tt_slots_publish(&slots, 0, &meaning);
        for (int64_t step = 1; step < 50; step++) {
            int index = tt_slots_choose(&slots);
            tt_slots_take(&slots, index);
            meaning.step = step;
            tt_slots_publish(&slots, index, &meaning);
            /* The last `count` states are all there. */
            for (int64_t back = step > count - 1 ? step - count + 1 : 0; back <= step; back++) {
                int found = 0;
                for (int i = 0; i < count; i++) {
                    found += slots.slot[i].valid && slots.slot[i].step == back;
                }
                assert_int_equal(found, 1);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model_walks),
        cmocka_unit_test(keeps_as_many_as_there_is_room_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
