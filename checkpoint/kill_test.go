package checkpoint

const helperMode = "AGRDIST_CHECKPOINT_TEST_HELPER"

func helper(string) int { return 1 }
