package cpu

// prepArgs is what goes before a product: the packing and the padding in one
// loop.
type prepArgs struct {
	pack packing
	pad  padding
	cut  int // iterations of pack
}

func (a *prepArgs) items() int {
	a.cut = 0
	if a.pack.dst != nil {
		a.cut = a.pack.items()
	}
	return a.cut + a.pad.items()
}

func prepItem(a *prepArgs, i int) {
	if i < a.cut {
		a.pack.item(i)
	} else {
		a.pad.item(i - a.cut)
	}
}
