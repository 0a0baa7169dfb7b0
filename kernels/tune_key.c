/* What measurements depend on: the machine as this process may use it, the build, the libraries,
 * and the question. They are trusted where all of it is the same. */
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tune.h"

#if defined(__x86_64__)
#include <cpuid.h>

/* Signature and feature bits: leaf 1 (but for the number of this core), leaf 7. */
static void add_processor(tt_text *out)
{
    unsigned a = 0, b = 0, c = 0, d = 0;
    (void)__get_cpuid(1, &a, &b, &c, &d);
    tt_text_addf(out, "processor %08x %08x %08x", a, c, d);
    a = b = c = d = 0;
    (void)__get_cpuid_count(7, 0, &a, &b, &c, &d);
    tt_text_addf(out, " %08x %08x %08x", b, c, d);
    for (int isa = TT_ISA_ANY; isa <= (int)TT_ISA_AMX_BF16; isa++)
        if (tt_isa_available((tt_isa)isa))
            tt_text_addf(out, " %s", tt_isa_name((tt_isa)isa));
    tt_text_add(out, "\n");
}
#else
static void add_processor(tt_text *out)
{
    tt_text_add(out, "processor any\n");
}
#endif

/* ---- the build: the linker's id of the file that this code is in ---- */

typedef struct build_search {
    uintptr_t address;
    tt_text *out;
    bool found;
} build_search;

static void add_note(const ElfW(Nhdr) * note, build_search *search)
{
    const char *name = (const char *)(note + 1);
    const unsigned char *id = (const unsigned char *)name + (note->n_namesz + 3u) / 4u * 4u;
    if (note->n_type != NT_GNU_BUILD_ID || note->n_namesz != 4 || memcmp(name, "GNU", 4) != 0)
        return;
    for (size_t i = 0; i < note->n_descsz; i++)
        tt_text_addf(search->out, "%02x", id[i]);
    search->found = true;
}

static bool holds_address(const struct dl_phdr_info *info, uintptr_t address)
{
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t begin = info->dlpi_addr + header->p_vaddr;
        if (header->p_type == PT_LOAD && address >= begin && address - begin < header->p_memsz)
            return true;
    }
    return false;
}

static int look_at_object(struct dl_phdr_info *info, size_t size, void *user)
{
    build_search *search = user;
    (void)size;
    if (!holds_address(info, search->address))
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type != PT_NOTE)
            continue;
        uintptr_t at = info->dlpi_addr + header->p_vaddr, end = at + header->p_memsz;
        while (at + sizeof(ElfW(Nhdr)) <= end && !search->found) {
            const ElfW(Nhdr) *note = (const ElfW(Nhdr) *)at; // NOLINT(performance-no-int-to-ptr)
            add_note(note, search);
            at += sizeof *note + (note->n_namesz + 3u) / 4u * 4u + (note->n_descsz + 3u) / 4u * 4u;
        }
    }
    return 1;
}

static tt_status add_build(tt_text *out)
{
    build_search search = {.address = (uintptr_t)&tt_tune_key, .out = out};
    tt_text_add(out, "build ");
    (void)dl_iterate_phdr(look_at_object, &search);
    tt_text_add(out, "\n");
    return search.found ? TT_OK
                        : tt_fail(TT_EUNSUPPORTED, "tune: this build has no id (link it with "
                                                   "-Wl,--build-id), so nothing can be cached");
}

/* ---- the question ---- */

static void add_caches(tt_text *out)
{
    tt_text_addf(out, "caches %ld %ld %ld\n", sysconf(_SC_LEVEL1_DCACHE_SIZE),
                 sysconf(_SC_LEVEL2_CACHE_SIZE), sysconf(_SC_LEVEL3_CACHE_SIZE));
}

static void add_families(const tt_tune_target *target, tt_text *out)
{
    for (size_t f = 0; f < target->family_count; f++) {
        const tt_tune_family *family = &target->families[f];
        tt_text_addf(out, "variant %s", family->name);
        for (int op = 0; op < TT_PRODUCTS; op++)
            tt_text_addf(out, " %d%d%d", family->candidate[op], family->acceptable[op],
                         family->current[op]);
        tt_text_addf(out, " %s\n", tt_library_version(family->library));
    }
}

tt_status tt_tune_key(const tt_context *context, const tt_tune_target *target,
                      const tt_tune_options *options, tt_text *out)
{
    tt_status status = add_build(out);
    if (status != TT_OK)
        return status;
    add_processor(out);
    add_caches(out);
    tt_text_addf(out, "threads %d of %d\ncompute %s, weights %s\n", context->exec.threads,
                 tt_threads_available(), tt_dtype_name(target->compute),
                 tt_dtype_name(target->weights_bf16 ? TT_BF16 : TT_F32));
    add_families(target, out);
    for (size_t t = 0; t < options->tile_count; t++)
        tt_text_addf(out, "tile %d %d %d\n", options->tiles[t].m, options->tiles[t].n,
                     options->tiles[t].k);
    for (size_t s = 0; s < options->shape_count; s++) {
        const tt_gemm_shape *shape = &options->shapes[s];
        tt_text_addf(out, "shape %s %lld %lld %lld %d\n", tt_op_name(shape->op),
                     (long long)shape->m, (long long)shape->n, (long long)shape->k, shape->count);
    }
    return tt_text_check(out);
}
