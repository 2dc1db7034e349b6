"""Strata of patients: which samples are alike, across sites, and how sure that is. The door is `rounds.Stratifier`.

Theory of operation. A sample is a row of features (cell-type log-ratios, pseudobulk or marker statistics). Sites
publish exact integer sums only, in five kinds of rounds: sums of features (their mean and scale, and the share of
variance that is site), sums of products (principal components, the space of the samples), Lloyd's k-means (all
numbers of strata, starts, resamples of donors and null twins side by side), tables of agreement (stability), and sums
per stratum (what marks it, and what it goes along with). Every merge is integers, or float64 `+ - x / sqrt` and
`math.fsum` of integers: the same bits at every site, for any partition of the donors.

`table`: rows; `kmeans`: Lloyd's rounds; `judge`: how many strata, if any; `describe`: what they are; `state`: what is
agreed on; `merges` and `rounds`: the order of it all; `released`: the file. The space is `model.components`, what is
random `model.draws`.
"""
