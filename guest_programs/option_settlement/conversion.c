#include "money.h"
#include "settlement.h"

/* The stage's own symbol, so that a proof and a dispute can name it; the arithmetic is common/money.h's. */
struct wide sats_at(struct wide value, u32 spot, struct wide collateral) { return cents_to_sats(value, spot, collateral); }
