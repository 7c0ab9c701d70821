/* European cash-or-nothing calls and puts without a barrier; everything else is refused. */
#include "settlement.h"

int main(void) {
    if (INPUT->option_type - BINARY_CALL > 1u)
        refuse(OUTPUT, ERROR_OPTION_TYPE);
    else if (INPUT->barrier_level)
        refuse(OUTPUT, ERROR_BARRIER);
    else if (INPUT->early_exercise)
        refuse(OUTPUT, ERROR_EARLY_EXERCISE);
    else
        settle_at_expiry(INPUT, OUTPUT);
    return 0;
}
