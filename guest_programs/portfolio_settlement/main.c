/*
 * Up to 64 options of one expiry in one run: one trace, one proof, one root.
 *
 * Input: ABI version, count, then `count` settlement inputs of 60 bytes. Output: ABI version, error, count, sum of the
 * payouts in satoshis (u64), one spare word, then `count` settlement outputs of 40 bytes. All must be settled at the same
 * price, at expiry; the error word says whether the batch as a whole was refused, each output whether that option was.
 */
#include "settlement.h"

#define MOST 64u

struct batch_output {
    u32 abi_version;
    u32 error;
    u32 count;
    u32 spare;
    u32 payout_sats_low;
    u32 payout_sats_high;
    struct settlement_output outputs[MOST];
};

_Static_assert(sizeof(struct batch_output) == 2584, "output_size in the manifest");

#define BATCH ((const volatile u32 *)0x80000000u)
#define RESULTS ((volatile struct batch_output *)0x80001000u)

int main(void) {
    const volatile struct settlement_input *inputs = (const volatile struct settlement_input *)(BATCH + 2);
    u32 count = BATCH[1];
    RESULTS->abi_version = ABI_VERSION;
    if (BATCH[0] != ABI_VERSION) {
        RESULTS->error = ERROR_ABI_VERSION;
        return 0;
    }
    if (count - 1u >= MOST) {
        RESULTS->error = ERROR_QUANTITY;
        return 0;
    }
    for (u32 k = 0; k < count; k++) {
        if (inputs[k].spot != inputs[0].spot) {
            RESULTS->error = ERROR_SPOT;
            return 0;
        }
        if (inputs[k].time_to_expiry) {
            RESULTS->error = ERROR_TIME_TO_EXPIRY;
            return 0;
        }
    }
    struct wide sum = {0, 0};
    for (u32 k = 0; k < count; k++) {
        volatile struct settlement_output *output = &RESULTS->outputs[k];
        settle_at_expiry(&inputs[k], output);
        u32 low = output->payout_sats_low;
        sum.low += low;
        sum.high += output->payout_sats_high + (sum.low < low);
    }
    RESULTS->count = count;
    RESULTS->payout_sats_low = sum.low;
    RESULTS->payout_sats_high = sum.high;
    return 0;
}
