#include "settlement.h"

/* Above the strike up-and-out, below it down-and-out, both inclusive; barrier 0 is none. Branch-free as payoff.c. */
__attribute__((noinline)) u32 knocked_out(u32 barrier, u32 strike, u32 observed_low, u32 observed_high) {
    u32 exists = 0u < barrier;
    u32 up = opaque(mask(strike < barrier));
    /* up: high < barrier; down: barrier < low. */
    u32 lesser = barrier ^ ((barrier ^ observed_high) & up);
    u32 greater = observed_low ^ ((observed_low ^ barrier) & up);
    return exists & (1u - (lesser < greater));
}
