/*
 * PROGRAM: replace the payoff below with yours, and with it what is checked before it.
 *
 * Rules: read only INPUT, write only OUTPUT, no initialised globals, no recursion; every input that you do not handle is
 * an explicit error, never a number; money is an integer. `btcfi guest check PROGRAM` attacks it.
 */
#include "money.h"

/*
 * A capped call: spot - strike per bitcoin, at most the cap, in cents times 1/100 BTC: exact, no division yet.
 * A function of its own (noinline) without a branch or a call: a dispute replays it instruction by instruction.
 */
__attribute__((noinline)) static struct wide payoff(u32 strike, u32 spot, u32 cap, u32 quantity) {
    u32 gain = (spot - strike) & mask(opaque(strike < spot));
    u32 below = mask(opaque(gain < cap));
    return product((gain & below) | (cap & ~below), quantity);
}

/* The first word that is out of range, as an error code. */
static u32 validate(u32 strike, u32 spot, u32 cap, u32 quantity, struct wide collateral) {
    u32 most_high = (u32)(MAX_COLLATERAL >> 32), most_low = (u32)MAX_COLLATERAL;
    if (INPUT->abi_version != ABI_VERSION)
        return ERROR_ABI_VERSION;
    if (INPUT->option_type != CALL)
        return ERROR_OPTION_TYPE;
    if (strike == 0)
        return ERROR_STRIKE;
    if (spot == 0)
        return ERROR_SPOT;
    if (quantity == 0 || quantity > MAX_QUANTITY)
        return ERROR_QUANTITY;
    if (cap == 0)
        return ERROR_BARRIER;
    if (INPUT->early_exercise != 0)
        return ERROR_EARLY_EXERCISE;
    if (INPUT->time_to_expiry != 0)
        return ERROR_TIME_TO_EXPIRY;
    if ((collateral.low | collateral.high) == 0 || collateral.high > most_high ||
        (collateral.high == most_high && collateral.low > most_low))
        return ERROR_COLLATERAL;
    return ERROR_NONE;
}

int main(void) {
    u32 strike = INPUT->strike, spot = INPUT->spot, cap = INPUT->barrier_level, quantity = INPUT->quantity, ignored;
    struct wide collateral = {INPUT->collateral_low, INPUT->collateral_high};
    u32 error = validate(strike, spot, cap, quantity, collateral);
    OUTPUT->abi_version = ABI_VERSION;
    if (error) {
        OUTPUT->error = error;
        return 0;
    }
    struct wide value = payoff(strike, spot, cap, quantity);
    struct wide cents = divide(value, 100, &ignored);           /* for people */
    struct wide sats = cents_to_sats(value, spot, collateral); /* what is paid */
    u32 premium = INPUT->premium;
    OUTPUT->payout_low = cents.low;
    OUTPUT->payout_high = cents.high;
    OUTPUT->exercise_type = spot > strike ? IN_THE_MONEY : spot < strike ? OUT_OF_THE_MONEY : AT_THE_MONEY;
    OUTPUT->profit_loss_low = cents.low - premium;
    OUTPUT->profit_loss_high = cents.high - (cents.low < premium);
    OUTPUT->payout_sats_low = sats.low;
    OUTPUT->payout_sats_high = sats.high;
    return 0;
}
