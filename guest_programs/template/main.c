/*
 * PROGRAM: replace the payoff below with yours.
 *
 * Rules: read only INPUT, write only OUTPUT, no initialised globals, no recursion; 64-bit sums by two words (wide.h) or
 * u64; every input that you do not handle is an explicit error, never a number. `btcfi guest check PROGRAM` tells.
 */
#include "wide.h"

/* A capped call: pays spot - strike per bitcoin, at most the cap, which stands in the word barrier_level. */
static struct wide payoff(u32 strike, u32 spot, u32 cap, u32 quantity) {
    u32 gain = (spot - strike) & mask(strike < spot);
    u32 capped = gain < cap ? gain : cap;
    u32 ignored;
    return divide(product(capped, quantity), 100, &ignored);
}

int main(void) {
    u32 strike = INPUT->strike, spot = INPUT->spot, cap = INPUT->barrier_level;
    OUTPUT->abi_version = ABI_VERSION;
    if (INPUT->abi_version != ABI_VERSION) {
        OUTPUT->error = ERROR_ABI_VERSION;
        return 0;
    }
    if (strike == 0 || spot == 0 || cap == 0) {
        OUTPUT->error = strike == 0 ? ERROR_STRIKE : spot == 0 ? ERROR_SPOT : ERROR_BARRIER;
        return 0;
    }
    struct wide cents = payoff(strike, spot, cap, INPUT->quantity);
    OUTPUT->payout_low = cents.low;
    OUTPUT->payout_high = cents.high;
    OUTPUT->exercise_type = spot > strike ? IN_THE_MONEY : spot < strike ? OUT_OF_THE_MONEY : AT_THE_MONEY;
    return 0;
}
