/* The machine as this process may use it: cores and caches (hwloc), the affinity mask, the cgroup's
 * CPU quota, and what the user asks of OpenMP. */
#include <hwloc.h>
#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static hwloc_topology_t machine; /* NULL: it cannot be read */

/* The machine does not change while a process runs; its mask may. */
static void read_machine(void)
{
    if (hwloc_topology_init(&machine) != 0)
        return;
    /* All of it, whatever this process may use; nothing but what is asked below. */
    if (hwloc_topology_set_flags(machine, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED) != 0 ||
        hwloc_topology_set_all_types_filter(machine, HWLOC_TYPE_FILTER_KEEP_NONE) != 0 ||
        hwloc_topology_set_type_filter(machine, HWLOC_OBJ_CORE, HWLOC_TYPE_FILTER_KEEP_ALL) != 0 ||
        hwloc_topology_set_type_filter(machine, HWLOC_OBJ_PACKAGE, HWLOC_TYPE_FILTER_KEEP_ALL) !=
            0 ||
        hwloc_topology_set_cache_types_filter(machine, HWLOC_TYPE_FILTER_KEEP_ALL) != 0 ||
        hwloc_topology_load(machine) != 0) {
        hwloc_topology_destroy(machine);
        machine = NULL;
    }
}

static size_t cache_bytes(hwloc_obj_type_t type)
{
    hwloc_obj_t cache = hwloc_get_obj_by_type(machine, type, 0);
    return cache != NULL ? (size_t)cache->attr->cache.size : 0;
}

/* Cores with a processor in the calling thread's mask. */
static int count_cores(void)
{
    int count = 0, cores = hwloc_get_nbobjs_by_type(machine, HWLOC_OBJ_CORE);
    hwloc_bitmap_t mask = hwloc_bitmap_alloc();
    if (mask != NULL && hwloc_get_cpubind(machine, mask, HWLOC_CPUBIND_THREAD) == 0)
        for (int i = 0; i < cores; i++)
            count += hwloc_bitmap_intersects(
                hwloc_get_obj_by_type(machine, HWLOC_OBJ_CORE, (unsigned)i)->cpuset, mask);
    hwloc_bitmap_free(mask);
    return count;
}

static int omp_threads(void)
{
    const char *text = getenv("OMP_NUM_THREADS"); // NOLINT(concurrency-mt-unsafe): read only
    long threads = text != NULL ? strtol(text, NULL, 10) : 0; /* of a list, the outermost */
    return threads > 0 && threads <= TT_MAX_THREADS ? (int)threads : 0;
}

void tt_topology_read(tt_topology *out)
{
    int available = tt_threads_available();
    *out = (tt_topology){
        .size = sizeof *out, .processors_available = available, .omp_threads = omp_threads()};
    pthread_once(&once, read_machine);
    if (machine != NULL) {
        out->packages = hwloc_get_nbobjs_by_type(machine, HWLOC_OBJ_PACKAGE);
        out->nodes = hwloc_get_nbobjs_by_type(machine, HWLOC_OBJ_NUMANODE);
        out->cores = hwloc_get_nbobjs_by_type(machine, HWLOC_OBJ_CORE);
        out->processors = hwloc_get_nbobjs_by_type(machine, HWLOC_OBJ_PU);
        out->cores_available = count_cores();
        out->l1_bytes = cache_bytes(HWLOC_OBJ_L1CACHE);
        out->l2_bytes = cache_bytes(HWLOC_OBJ_L2CACHE);
        out->l3_bytes = cache_bytes(HWLOC_OBJ_L3CACHE);
    }
    /* A second thread on a core has no arithmetic of its own; a quota counts processors. */
    int threads = out->cores_available > 0 && out->cores_available < available
                      ? out->cores_available
                      : available;
    if (out->omp_threads > 0)
        threads = out->omp_threads < available ? out->omp_threads : available;
    out->threads = threads < TT_MAX_THREADS ? threads : TT_MAX_THREADS;
    out->pinned = omp_get_num_places() > 0 && omp_get_proc_bind() != omp_proc_bind_false;
}

void tt_threads_release_caller(void)
{
    cpu_set_t mask;
    CPU_ZERO(&mask);
    int places = omp_get_num_places();
    for (int place = 0; place < places; place++) {
        int count = omp_get_place_num_procs(place);
        int *processors = calloc((size_t)count + 1, sizeof *processors);
        if (processors == NULL)
            return;
        omp_get_place_proc_ids(place, processors);
        for (int i = 0; i < count; i++)
            if (processors[i] < CPU_SETSIZE)
                CPU_SET((size_t)processors[i], &mask);
        free(processors);
    }
    if (CPU_COUNT(&mask) > 0)
        (void)sched_setaffinity(0, sizeof mask, &mask);
}
