/* European options of all four types with a knock-out barrier; everything else is refused. */
#include "settlement.h"

int main(void) {
    if (INPUT->barrier_level == 0)
        refuse(OUTPUT, ERROR_BARRIER);
    else if (INPUT->early_exercise)
        refuse(OUTPUT, ERROR_EARLY_EXERCISE);
    else
        settle_at_expiry(INPUT, OUTPUT);
    return 0;
}
