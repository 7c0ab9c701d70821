/* One settlement: validate, look at the path, decide on early exercise, pay, convert. */
#include "settlement.h"

static void refuse(u32 error) {
    OUTPUT->abi_version = ABI_VERSION;
    OUTPUT->error = error;
}

int main(void) {
    u32 error = validate(INPUT);
    if (error) {
        refuse(error);
        return 0;
    }
    struct terms terms = {
        INPUT->option_type, INPUT->strike, INPUT->spot, INPUT->quantity,
        INPUT->barrier_level, INPUT->time_to_expiry, INPUT->volatility, INPUT->rate,
    };
    u32 barrier_hit = knocked_out(terms.barrier, terms.strike, INPUT->observed_low, INPUT->observed_high);
    u32 early = 0, hold = 0;
    if (terms.minutes && !barrier_hit) {
        if (INPUT->early_exercise)
            early = exercise_now(&terms);
        if (early == TREE_REFUSED) {
            refuse(ERROR_VOLATILITY);
            return 0;
        }
        hold = 1u - early;
    }

    struct payoff result = {{0, 0}, HOLD};
    struct wide sats = {0, 0};
    if (!hold) {
        payoff(&result, terms.option_type, terms.strike, terms.spot, terms.quantity, barrier_hit);
        struct wide collateral = {INPUT->collateral_low, INPUT->collateral_high};
        sats = cents_to_sats(result.cents, terms.spot, collateral);
    }

    u32 premium = INPUT->premium;
    OUTPUT->payout_low = result.cents.low;
    OUTPUT->payout_high = result.cents.high;
    OUTPUT->exercise_type = early ? EARLY_EXERCISE : result.exercise_type;
    OUTPUT->barrier_hit = barrier_hit;
    OUTPUT->profit_loss_low = result.cents.low - premium;
    OUTPUT->profit_loss_high = result.cents.high - (result.cents.low < premium);
    OUTPUT->payout_sats_low = sats.low;
    OUTPUT->payout_sats_high = sats.high;
    OUTPUT->abi_version = ABI_VERSION;
    OUTPUT->error = ERROR_NONE;
    return 0;
}
