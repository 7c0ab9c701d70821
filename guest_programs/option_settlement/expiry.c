#include "settlement.h"

void settle_at_expiry(const volatile struct settlement_input *input, volatile struct settlement_output *output) {
    u32 error = validate(input);
    if (error) {
        refuse(output, error);
        return;
    }
    u32 barrier_hit = knocked_out(input->barrier_level, input->strike, input->observed_low, input->observed_high);
    if (input->time_to_expiry && !barrier_hit)
        hold(input, output);
    else
        pay(input, output, barrier_hit, 0);
}
