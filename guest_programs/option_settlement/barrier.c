#include "settlement.h"

/* Above the strike up-and-out, below it down-and-out, both inclusive; barrier 0 is none. Branch-free as payoff.c. */
__attribute__((noinline)) u32 knocked_out(u32 barrier, u32 strike, u32 observed_low, u32 observed_high) {
    u32 exists = 0u < barrier;
    u32 is_up = strike < barrier;
    u32 touched_up = 1u - (observed_high < barrier);
    u32 touched_down = 1u - (barrier < observed_low);
    return exists & ((is_up & touched_up) | ((1u - is_up) & touched_down));
}
