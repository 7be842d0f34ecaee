#ifndef SLUICE_TESTS_GOLDEN_TOPICS_H_
#define SLUICE_TESTS_GOLDEN_TOPICS_H_

// What each topic asks of Sluice; see vectors/README.md for the files. Each
// function answers one case and compares.

#include "tests/golden/case_check.h"

namespace sluice::golden {

void CheckTopology(CaseCheck& check);
void CheckGrid(CaseCheck& check);
void CheckFactors(CaseCheck& check);
void CheckStorage(CaseCheck& check);
void CheckGatherScatter(CaseCheck& check);
void CheckBroadcast(CaseCheck& check);
void CheckDatapack(CaseCheck& check);
void CheckSplit(CaseCheck& check);
void CheckDispatch(CaseCheck& check);
void CheckRankMapping(CaseCheck& check);  // and rank_mapping_hep
void CheckSyncGroups(CaseCheck& check);
void CheckBucketer(CaseCheck& check);
// Compares what real agents did (ReduceAgents) with a case of topic bucketer.
// Groups do not wait for each other: between two groups there is no order.
void CompareBucketerOnAgents(const Json& answer, CaseCheck& check);

}  // namespace sluice::golden

#endif  // SLUICE_TESTS_GOLDEN_TOPICS_H_
