/* From cents to satoshis: what a program pays. */
#ifndef BTCFI_MONEY_H
#define BTCFI_MONEY_H

#include "wide.h"

#define SATS_PER_CENTIBTC 1000000u

/*
 * floor(value * 10^6 / spot), at most the collateral: the only division between the price and the satoshis. value is in
 * cents times 1/100 BTC, spot > 0. value = whole * spot + rest, and rest * 10^6 < 2^52. From whole = 2^32 on it is
 * 4.2 * 10^15 satoshis, more than any collateral, so nothing that is multiplied here can wrap.
 */
static inline struct wide cents_to_sats(struct wide value, u32 spot, struct wide collateral) {
    u32 rest, ignored;
    struct wide whole = divide(value, spot, &rest);
    if (whole.high)
        return collateral;
    struct wide sats = product(whole.low, SATS_PER_CENTIBTC);
    u32 fraction = divide_digits(product(rest, SATS_PER_CENTIBTC), spot, &ignored);
    sats.low += fraction;
    sats.high += sats.low < fraction;
    u32 above = (sats.high > collateral.high) | ((sats.high == collateral.high) & (sats.low > collateral.low));
    return above ? collateral : sats;
}

#endif
