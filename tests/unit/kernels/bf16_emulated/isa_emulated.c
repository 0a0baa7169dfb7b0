/* Every machine has what is emulated here. */
#define tt_isa_available tt_isa_available_here
#include "isa.c"
#undef tt_isa_available

bool tt_isa_available(tt_isa isa)
{
    return isa == TT_ISA_AVX512_BF16 || isa == TT_ISA_AMX_BF16 || tt_isa_available_here(isa);
}
