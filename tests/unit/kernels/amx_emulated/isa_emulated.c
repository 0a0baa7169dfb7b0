/* Every machine has AMX: its tiles are emulated (tiles_emulated.h). */
#define tt_isa_available tt_isa_available_here
#include "isa.c"
#undef tt_isa_available

bool tt_isa_available(tt_isa isa)
{
    return isa == TT_ISA_AMX_BF16 || tt_isa_available_here(isa);
}
