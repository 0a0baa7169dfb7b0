/* Arenas. */
#include "unit.h"

#include <string.h>
#include <unistd.h>

typedef struct ledger {
    int64_t bytes;
    int calls;
} ledger;

static void count_bytes(void *user, int64_t bytes)
{
    ledger *book = user;
    book->bytes += bytes;
    book->calls++;
}

static void hook_balances(void **state)
{
    (void)state;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 2 << 20, (2 << 20) + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        ledger book = {0};
        tt_arena *arena = NULL;
        assert_int_equal(tt_arena_create(sizes[i], count_bytes, &book, &arena), TT_OK);
        assert_int_equal(book.calls, 1);
        assert_int_equal(book.bytes, tt_arena_capacity(arena));
        assert_true(tt_arena_capacity(arena) >= sizes[i]);
        assert_int_equal(tt_arena_capacity(arena) % page, 0);
        assert_true(tt_arena_capacity(arena) < sizes[i] + 2 * page);
        tt_arena_destroy(arena);
        assert_int_equal(book.calls, 2);
        assert_int_equal(book.bytes, 0);
    }
    tt_arena_destroy(NULL);
}

static void alignment(void **state)
{
    (void)state;
    tt_arena *arena = NULL;
    assert_int_equal(tt_arena_create(64 << 20, NULL, NULL, &arena), TT_OK);
    for (size_t align = 1; align <= (size_t)4 << 20; align *= 2) {
        unsigned char *odd = tt_arena_take(arena, 1, 1);
        unsigned char *memory = tt_arena_take(arena, 3, align);
        assert_non_null(odd);
        assert_non_null(memory);
        assert_true(memory > odd);
        assert_int_equal((uintptr_t)memory % align, 0);
    }
    (void)tt_arena_take(arena, 1, 1);
    assert_int_equal((uintptr_t)tt_arena_take(arena, 1, 0) % 64, 0);
    tt_arena_destroy(arena);
}

static void zero_and_disjoint(void **state)
{
    (void)state;
    tt_arena *arena = NULL;
    assert_int_equal(tt_arena_create(100000, NULL, NULL, &arena), TT_OK);
    unsigned char *previous_end = NULL;
    for (size_t i = 1;; i++) {
        unsigned char *memory = tt_arena_take(arena, i, 8);
        if (!memory) {
            break;
        }
        assert_true(memory >= previous_end);
        for (size_t j = 0; j < i; j++) {
            assert_int_equal(memory[j], 0);
        }
        memset(memory, 0xa5, i);
        previous_end = memory + i;
    }
    tt_arena_destroy(arena);
}

static void exhaustion(void **state)
{
    (void)state;
    tt_arena *arena = NULL;
    assert_int_equal(tt_arena_create(8192, NULL, NULL, &arena), TT_OK);
    assert_int_equal(tt_arena_capacity(arena), 8192);
    assert_non_null(tt_arena_take(arena, 8000, 1));
    assert_int_equal(tt_arena_used(arena), 8000);
    assert_null(tt_arena_take(arena, 193, 1));
    assert_null(tt_arena_take(arena, 190, 128)); /* the gap before it does not fit */
    assert_null(tt_arena_take(arena, SIZE_MAX, 1));
    assert_null(tt_arena_take(arena, SIZE_MAX - 8000, 64));
    assert_null(tt_arena_take(arena, 1, (size_t)1 << 62));
    assert_int_equal(tt_arena_used(arena), 8000); /* a refusal takes nothing */
    assert_non_null(tt_arena_take(arena, 192, 1));
    assert_int_equal(tt_arena_used(arena), 8192);
    assert_null(tt_arena_take(arena, 1, 1));
    tt_arena_destroy(arena);

    arena = (tt_arena *)state;
    assert_int_equal(tt_arena_create(SIZE_MAX, NULL, NULL, &arena), TT_ENOMEM);
    assert_null(arena);
    assert_int_equal(tt_arena_create((size_t)1 << 60, NULL, NULL, &arena), TT_ENOMEM);
    assert_null(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hook_balances),
        cmocka_unit_test(alignment),
        cmocka_unit_test(zero_and_disjoint),
        cmocka_unit_test(exhaustion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
