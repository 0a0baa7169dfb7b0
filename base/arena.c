/* A bump allocator over one anonymous mapping. */
#include "trimtab/base.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct tt_arena {
    unsigned char *base;
    size_t used;
    size_t capacity;
    tt_memory_hook hook;
    void *hook_user;
};

enum { HUGE_PAGE = 2 << 20, DEFAULT_ALIGN = 64 };

tt_status tt_arena_create(size_t capacity, tt_memory_hook hook, void *user, tt_arena **out)
{
    *out = NULL;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (capacity > SIZE_MAX - page) {
        return tt_fail(TT_ENOMEM, "an arena of %zu bytes is beyond the address space", capacity);
    }
    size_t rounded = capacity ? (capacity + page - 1) / page * page : page;
    tt_arena *arena = calloc(1, sizeof *arena);
    if (!arena) {
        return tt_fail(TT_ENOMEM, "no memory for an arena's record");
    }
    void *base = mmap(NULL, rounded, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) {
        free(arena);
        return tt_fail(TT_ENOMEM,
                       "cannot map %zu bytes (%.1f MiB); use a smaller model, batch or "
                       "snapshot.slots",
                       rounded, (double)rounded / (1 << 20));
    }
    if (rounded >= HUGE_PAGE) {
        /* Advice only: a kernel without huge pages refuses, and nothing is lost. */
        (void)madvise(base, rounded, MADV_HUGEPAGE);
    }
    arena->base = base;
    arena->capacity = rounded;
    arena->hook = hook;
    arena->hook_user = user;
    if (hook) {
        hook(user, (int64_t)rounded);
    }
    *out = arena;
    return TT_OK;
}

void tt_arena_destroy(tt_arena *arena)
{
    if (!arena) {
        return;
    }
    munmap(arena->base, arena->capacity);
    if (arena->hook) {
        arena->hook(arena->hook_user, -(int64_t)arena->capacity);
    }
    free(arena);
}

void *tt_arena_take(tt_arena *arena, size_t bytes, size_t align)
{
    size_t mask = (align ? align : DEFAULT_ALIGN) - 1;
    /* The address is aligned, not the offset: the base is a multiple of the page size only. */
    size_t padding = (size_t)(-((uintptr_t)arena->base + arena->used)) & mask;
    size_t start = arena->used + padding;
    if (padding > arena->capacity || start > arena->capacity || bytes > arena->capacity - start) {
        return NULL;
    }
    arena->used = start + bytes;
    return arena->base + start;
}

size_t tt_arena_used(const tt_arena *arena)
{
    return arena->used;
}

size_t tt_arena_capacity(const tt_arena *arena)
{
    return arena->capacity;
}
