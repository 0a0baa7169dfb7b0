/* base/threads.h: what tests of the processor count need to plant. */
#ifndef TT_BASE_THREADS_H
#define TT_BASE_THREADS_H

/* The smallest CPU quota, in processors, of the cgroups that `membership` (a file like
 * /proc/self/cgroup) names and of all above them, in the hierarchies mounted under `root` (like
 * /sys/fs/cgroup): v2 in root itself, v1 in root/cpu. 0 if there is no quota. */
double tt_cpu_quota(const char *membership, const char *root);

#endif
