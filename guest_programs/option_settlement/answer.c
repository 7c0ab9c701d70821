/* The output page, written once. */
#include "settlement.h"

void refuse(volatile struct settlement_output *output, u32 error) {
    output->abi_version = ABI_VERSION;
    output->error = error;
}

static void write(volatile struct settlement_output *output, const struct payoff *result, struct wide sats, u32 premium,
                  u32 barrier_hit) {
    output->payout_low = result->cents.low;
    output->payout_high = result->cents.high;
    output->exercise_type = result->exercise_type;
    output->barrier_hit = barrier_hit;
    output->profit_loss_low = result->cents.low - premium;
    output->profit_loss_high = result->cents.high - (result->cents.low < premium);
    output->payout_sats_low = sats.low;
    output->payout_sats_high = sats.high;
    output->abi_version = ABI_VERSION;
    output->error = ERROR_NONE;
}

void hold(const volatile struct settlement_input *input, volatile struct settlement_output *output) {
    struct payoff nothing = {{0, 0}, {0, 0}, HOLD};
    struct wide no_sats = {0, 0};
    write(output, &nothing, no_sats, input->premium, 0);
}

void pay(const volatile struct settlement_input *input, volatile struct settlement_output *output, u32 barrier_hit,
         u32 early) {
    struct payoff result;
    u32 spot = input->spot;
    payoff(&result, input->option_type, input->strike, spot, input->quantity, barrier_hit);
    if (early)
        result.exercise_type = EARLY_EXERCISE;
    struct wide collateral = {input->collateral_low, input->collateral_high};
    struct wide sats = sats_at(result.value, spot, collateral);
    write(output, &result, sats, input->premium, barrier_hit);
}
