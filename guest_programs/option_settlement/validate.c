#include "settlement.h"

#define MAX_MINUTES 525600u   /* a year: rate * minutes must fit a word (exercise_tree.c) */
#define MAX_VOLATILITY 100000u /* 1,000 % */
#define MAX_RATE 5000u         /* 50 % */

u32 validate(const volatile struct settlement_input *input) {
    if (input->abi_version != ABI_VERSION)
        return ERROR_ABI_VERSION;
    if (input->option_type > BINARY_PUT)
        return ERROR_OPTION_TYPE;
    u32 strike = input->strike, spot = input->spot;
    if (strike == 0)
        return ERROR_STRIKE;
    if (spot == 0)
        return ERROR_SPOT;
    if (input->quantity - 1u >= MAX_QUANTITY)
        return ERROR_QUANTITY;
    if (input->barrier_level == strike)
        return ERROR_BARRIER;
    if (input->observed_low > spot || input->observed_high < spot)
        return ERROR_OBSERVED_RANGE;
    u32 high = input->collateral_high;
    u32 low = input->collateral_low;
    u32 most_high = (u32)(MAX_COLLATERAL >> 32), most_low = (u32)MAX_COLLATERAL;
    if (high > most_high || (high == most_high && low > most_low) || (high | low) == 0)
        return ERROR_COLLATERAL;
    u32 american = input->early_exercise;
    if (american > 1)
        return ERROR_EARLY_EXERCISE;
    /* The rest matters to the exercise tree only. */
    if (american == 0 || input->time_to_expiry == 0)
        return ERROR_NONE;
    if (input->time_to_expiry > MAX_MINUTES)
        return ERROR_TIME_TO_EXPIRY;
    if (input->volatility > MAX_VOLATILITY)
        return ERROR_VOLATILITY;
    if (input->rate > MAX_RATE)
        return ERROR_RATE;
    return ERROR_NONE;
}
