/* Which instruction sets this machine has: CPUID feature bits, what the system saves of the
 * registers (XCR0) and lets this process use, never the CPU's model. */
#include <trimtab/kernels.h>

const char *tt_isa_name(tt_isa isa)
{
    switch (isa) {
    case TT_ISA_ANY:
        return "any";
    case TT_ISA_X86_64_V3:
        return "x86-64-v3";
    case TT_ISA_X86_64_V4:
        return "x86-64-v4";
    case TT_ISA_AVX512_BF16:
        return "avx512-bf16";
    case TT_ISA_AMX_BF16:
        return "amx-bf16";
    }
    return "?";
}

#if defined(__x86_64__)
#include <cpuid.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

/* AVX2 level: psABI x86-64-v3. */
static bool has_v3(uint32_t xcr0)
{
    unsigned a, b, c, d;
    const unsigned leaf1 = bit_FMA | bit_MOVBE | bit_AVX | bit_F16C | bit_SSE4_2 | bit_POPCNT;
    const unsigned leaf7 = bit_AVX2 | bit_BMI | bit_BMI2;
    if ((xcr0 & 6) != 6) /* xmm and ymm state */
        return false;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & leaf1) != leaf1)
        return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (b & leaf7) != leaf7)
        return false;
    return __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & bit_LZCNT) != 0;
}

/* AVX-512 level: psABI x86-64-v4. */
static bool has_v4(uint32_t xcr0)
{
    unsigned a, b, c, d;
    const unsigned leaf7 = bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL;
    return has_v3(xcr0) && (xcr0 & 0xe0) == 0xe0 && /* opmask and zmm state */
           __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & leaf7) == leaf7;
}

static bool has_avx512_bf16(uint32_t xcr0)
{
    unsigned a, b, c, d;
    const unsigned leaf71 = 1u << 5; /* EAX: AVX512-BF16; gcc and clang name the bit differently */
    return has_v4(xcr0) && __get_cpuid_count(7, 0, &a, &b, &c, &d) && a >= 1 &&
           __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & leaf71) == leaf71;
}

static bool has_amx_bf16(uint32_t xcr0)
{
    unsigned a, b, c, d;
    const uint32_t tile_state = 1u << 17 | 1u << 18; /* configuration and data */
    const unsigned leaf7 = 1u << 24 | 1u << 22;      /* EDX: AMX-TILE, AMX-BF16 */
    return has_avx512_bf16(xcr0) && (xcr0 & tile_state) == tile_state &&
           __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & leaf7) == leaf7;
}

/* Linux saves tile data only for processes that asked for it (Documentation/arch/x86/xstate.rst).
 * The permission is the process's: it holds for threads that run already and for those to come. It
 * is refused where a signal stack is too small for tiles. */
static bool permit_tiles(void)
{
#if defined(__linux__)
    const long arch_req_xcomp_perm = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, arch_req_xcomp_perm, tile_data) == 0;
#else
    return false;
#endif
}

static uint32_t read_xcr0(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & bit_OSXSAVE) == 0)
        return 0;
    __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return a;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool v3_here, v4_here, bf16_here, amx_here;

/* CPUID traps under a hypervisor: once is enough. */
static void read_features(void)
{
    uint32_t xcr0 = read_xcr0();
    v3_here = has_v3(xcr0);
    v4_here = has_v4(xcr0);
    bf16_here = has_avx512_bf16(xcr0);
    amx_here = has_amx_bf16(xcr0) && permit_tiles();
}

bool tt_isa_available(tt_isa isa)
{
    pthread_once(&once, read_features);
    return isa == TT_ISA_ANY || (isa == TT_ISA_X86_64_V3 && v3_here) ||
           (isa == TT_ISA_X86_64_V4 && v4_here) || (isa == TT_ISA_AVX512_BF16 && bf16_here) ||
           (isa == TT_ISA_AMX_BF16 && amx_here);
}
#else
bool tt_isa_available(tt_isa isa)
{
    return isa == TT_ISA_ANY;
}
#endif
