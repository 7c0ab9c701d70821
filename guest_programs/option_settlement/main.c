/* One settlement of any kind: validate, look at the path, decide on early exercise, pay. */
#include "settlement.h"

int main(void) {
    u32 error = validate(INPUT);
    if (error) {
        refuse(OUTPUT, error);
        return 0;
    }
    struct terms terms = {
        INPUT->option_type, INPUT->strike, INPUT->spot, INPUT->quantity,
        INPUT->barrier_level, INPUT->time_to_expiry, INPUT->volatility, INPUT->rate,
    };
    u32 barrier_hit = knocked_out(terms.barrier, terms.strike, INPUT->observed_low, INPUT->observed_high);
    u32 early = 0;
    if (terms.minutes && !barrier_hit) {
        if (INPUT->early_exercise)
            early = exercise_now(&terms);
        if (early == TREE_REFUSED) {
            refuse(OUTPUT, ERROR_VOLATILITY);
            return 0;
        }
        if (!early) {
            hold(INPUT, OUTPUT);
            return 0;
        }
    }
    pay(INPUT, OUTPUT, barrier_hit, early);
    return 0;
}
